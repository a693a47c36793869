--[[ push: add what one process has counted, once; renew its trials; read windows.

  KEYS  processes (zset), sequence of this process (string), meta (hash), workers (hash), minutes (zset),
        then `adding` hashes of counters, `reading` hashes of counters, `renewing` hashes of leases, and for each of the
        `answering` calls for counts who has yet to answer it (set) and the word that all have (list)
  ARGV  process, sequence, epoch to use if there is none, ms that a process is live, ms of a lease,
        adding, reading, renewing, answering, "<number of the newest write that it has followed>|<host>",
        JSON list of the minutes that are counted into, ms that they are listed,
        then for each hash to add to a JSON list [ms that it is kept, field, count, field, count ...],
        then for each lease its token
  Returns {now in ms, epoch, count of writes, {live processes}, {HGETALL of each hash read}}

  A sequence that was applied before adds nothing. Each push into a minute raises the minute's score by one. Live processes are listed only when something is read.
]]
local processes, applied, meta, workers, minutes = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local fixed = 5
local process, sequence, epoch = ARGV[1], tonumber(ARGV[2]), ARGV[3]
local live_for, lease_for = tonumber(ARGV[4]), tonumber(ARGV[5])
local adding, reading, renewing = tonumber(ARGV[6]), tonumber(ARGV[7]), tonumber(ARGV[8])
local answering, worker = tonumber(ARGV[9]), ARGV[10]
local counted_into, listed_for = cjson.decode(ARGV[11]), ARGV[12]
local given = 12
local time = redis.call("TIME")
local now = time[1] * 1000 + math.floor(time[2] / 1000)

-- Two commands, however many counters change: one HINCRBY each were hundreds a second where latencies spread over
-- the histogram.
local at_once = 3000 -- some 8,000 arguments are too many for Lua
local function add(hash, counts)
  for first = 2, #counts, at_once do
    local fields, sums = {}, {}
    for f = first, math.min(first + at_once, #counts) - 1, 2 do
      fields[#fields + 1] = counts[f]
    end
    local held = redis.call("HMGET", hash, unpack(fields))
    for f = 1, #fields do
      sums[2 * f - 1] = fields[f]
      sums[2 * f] = string.format("%.0f", (held[f] or 0) + counts[first + 2 * f - 1])
    end
    redis.call("HSET", hash, unpack(sums))
  end
  redis.call("PEXPIRE", hash, counts[1])
end

redis.call("HSETNX", meta, "epoch", epoch)

if sequence > tonumber(redis.call("GET", applied) or "0") then
  local longest = 300000
  for i = 1, adding do
    local counts = cjson.decode(ARGV[given + i])
    add(KEYS[fixed + i], counts)
    longest = math.max(longest, counts[1])
  end
  redis.call("SET", applied, sequence, "PX", 2 * longest)
  for _, minute in ipairs(counted_into) do
    redis.call("ZINCRBY", minutes, 1, minute)
    redis.call("PEXPIRE", minutes, listed_for)
  end
end

redis.call("ZADD", processes, now, process)
redis.call("HSET", workers, process, now .. "|" .. worker)

for i = 1, renewing do
  local leases, token = KEYS[fixed + adding + reading + i], ARGV[given + adding + i]
  local lease = redis.call("HGET", leases, token)
  if lease then
    local ends, longest = lease:match("^(%d+):(%d+)$")
    if tonumber(ends) > now then
      local renewed = math.min(now + lease_for, tonumber(longest))
      redis.call("HSET", leases, token, string.format("%.0f:%s", renewed, longest))
    end
  end
end

local last = fixed + adding + reading + renewing
for i = last + 1, last + 2 * answering, 2 do
  local awaited, answered = KEYS[i], KEYS[i + 1]
  if redis.call("SREM", awaited, process) == 1 and redis.call("EXISTS", awaited) == 0 then
    redis.call("RPUSH", answered, "all")
    redis.call("PEXPIRE", answered, 1000)
  end
end

local live, read = {}, {}
if reading > 0 then
  redis.call("ZREMRANGEBYSCORE", processes, "-inf", now - live_for)
  live = redis.call("ZRANGE", processes, 0, -1)
  for i = 1, reading do
    read[i] = redis.call("HGETALL", KEYS[fixed + adding + i])
  end
end

return {now, redis.call("HGET", meta, "epoch"), tonumber(redis.call("HGET", meta, "seq") or "0"), live, read}
