--[[ write: compare-and-set of one circuit, and the news of it in the stream.

  KEYS  circuit (hash), its leases (hash), meta (hash), events (stream)
  ARGV  rev to write over ("" when the circuit must be absent), rev, generation id, data (JSON), deadline in ms,
        not before (ms), token of the lease that must be held ("" when none), name,
        event (JSON), events to keep, ms that an unseen circuit is kept, epoch to use if there is none
  Returns {1 when won else 0, now in ms, rev, count of writes at the last write, data} ; the last three as they stand

  A write whose rev is already stored has won before and wins again without a change.
]]
local circuit, leases, meta, events = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local expected, rev, generation, data = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local deadline, not_before, token = tonumber(ARGV[5]), tonumber(ARGV[6]), ARGV[7]
local name, event, keep, unseen, epoch = ARGV[8], ARGV[9], ARGV[10], ARGV[11], ARGV[12]
local time = redis.call("TIME")
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local function answer(won)
  local stands = redis.call("HMGET", circuit, "rev", "seq", "data")
  return {won, now, stands[1] or "", tonumber(stands[2] or "0"), stands[3] or ""}
end

local stored = redis.call("HGET", circuit, "rev") or ""
if stored == rev then
  return answer(1)
end
if stored ~= expected or now > deadline or now < not_before then
  return answer(0)
end
if token ~= "" then
  local lease = redis.call("HGET", leases, token)
  if not lease or tonumber(lease:match("^(%d+):")) <= now then
    return answer(0)
  end
end

redis.call("HSETNX", meta, "epoch", epoch)
local seq = redis.call("HINCRBY", meta, "seq", 1)
redis.call("HSET", circuit, "rev", rev, "seq", seq, "id", generation, "data", data)
redis.call("PEXPIRE", circuit, unseen)
redis.call("DEL", leases)
redis.call("XADD", events, "MAXLEN", "~", keep, "*",
  "name", name, "rev", rev, "seq", seq, "data", data, "event", event, "at", now)
return answer(1)
