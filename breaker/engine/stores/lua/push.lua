--[[ push: add what one process has counted, once; renew its trials; read windows.

  KEYS  processes (zset), sequence of this process (string), meta (hash), then `adding` hashes of counters, `reading`
        hashes of counters, `renewing` hashes of leases, and for each of the `answering` calls for counts
        who has yet to answer it (set) and the word that all have (list)
  ARGV  process, sequence, epoch to use if there is none, ms that counts are kept, ms that a process is live,
        ms of a lease, adding, reading, renewing, answering,
        then for each hash to add to a JSON list [field, count, field, count ...],
        then for each lease its token
  Returns {now in ms, epoch, count of writes, {live processes}, {HGETALL of each hash read}}

  A sequence that was applied before adds nothing. Live processes are listed only when something is read.
]]
local processes, applied, meta = KEYS[1], KEYS[2], KEYS[3]
local fixed = 3
local process, sequence, epoch = ARGV[1], tonumber(ARGV[2]), ARGV[3]
local keep, live_for, lease_for = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
local adding, reading, renewing = tonumber(ARGV[7]), tonumber(ARGV[8]), tonumber(ARGV[9])
local answering = tonumber(ARGV[10])
local time = redis.call("TIME")
local now = time[1] * 1000 + math.floor(time[2] / 1000)

-- Two commands, however many counters change: one HINCRBY each were hundreds a second where latencies spread over
-- the histogram.
local function add(hash, counts)
  if #counts == 0 then
    return
  end
  local fields = {}
  for f = 1, #counts, 2 do
    fields[#fields + 1] = counts[f]
  end
  local held = redis.call("HMGET", hash, unpack(fields))
  for f = 1, #fields do
    counts[2 * f] = string.format("%.0f", (held[f] or 0) + counts[2 * f])
  end
  redis.call("HSET", hash, unpack(counts))
end

redis.call("HSETNX", meta, "epoch", epoch)

if sequence > tonumber(redis.call("GET", applied) or "0") then
  redis.call("SET", applied, sequence, "PX", math.max(600000, 2 * keep))
  for i = 1, adding do
    local counters, counts = KEYS[fixed + i], cjson.decode(ARGV[10 + i])
    add(counters, counts)
    redis.call("PEXPIRE", counters, keep)
  end
end

redis.call("ZADD", processes, now, process)

for i = 1, renewing do
  local leases, token = KEYS[fixed + adding + reading + i], ARGV[10 + adding + i]
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
