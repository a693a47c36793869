// opossum as a contestant: reads orders, one JSON object a line, and answers each with what its turn took.
'use strict'

const CircuitBreaker = require('opossum')
const readline = require('readline')

const STAYS_OPEN = 600_000 // ms, as for the other contestants

let slowMs = 0
const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms))
const action = async (fails) => {
  if (fails) throw new Error('down')
  if (slowMs) await pause(slowMs)
}
const breaker = new CircuitBreaker(action, { resetTimeout: STAYS_OPEN, name: 'bench' })

async function trip () {
  for (let call = 0; call < 100 && !breaker.opened; call++) {
    await breaker.fire(true).catch(() => {})
  }
}

async function pressOne (calls) {
  let refused = 0
  for (let call = 0; call < calls; call++) {
    try {
      await breaker.fire(false)
    } catch (error) {
      if (error.code !== 'EOPENBREAKER') throw error
      refused++
    }
  }
  return refused
}

async function press ({ calls, atOnce, slow }) {
  slowMs = slow * 1000
  const cpu = process.cpuUsage()
  const began = process.hrtime.bigint()
  const refused = await Promise.all(Array.from({ length: atOnce }, () => pressOne(calls / atOnce)))
  const wall = Number(process.hrtime.bigint() - began) / 1e9
  const spent = process.cpuUsage(cpu)
  return { wall, cpu: (spent.user + spent.system) / 1e6, refused: refused.reduce((all, one) => all + one, 0) }
}

async function main () {
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const order = JSON.parse(line)
    if (order.trip) await trip()
    const answer = order.trip ? { opened: breaker.opened } : await press(order)
    process.stdout.write(JSON.stringify(answer) + '\n')
  }
  process.exit(0) // whoever gave the orders has gone
}

main()
