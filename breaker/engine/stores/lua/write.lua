--[[ write: compare-and-set of one circuit, and the news of it in the stream.

  KEYS  circuit (hash), its leases (hash), meta (hash), events (stream), what history has stored (hash),
        its running totals (hash)
  ARGV  rev to write over ("" when the circuit must be absent), rev, generation id, data (JSON), deadline in ms,
        not before (ms), token of the lease that must be held ("" when none), name,
        event (JSON), events to keep, and at most while they are not stored, ms that a stored one is kept for those
        who follow, ms that an unseen circuit is kept, epoch to use if there is none,
        the field of the running totals that counts it ("": none), 1 when calls then meet an open circuit else 0
  Returns {1 when won else 0, now in ms, rev, count of writes at the last write, data} ; the last three as they stand

  A write whose rev is already stored has won before and wins again without a change. Where nobody stores history the
  stream keeps its newest entries; else what is stored goes, and the rest stays until it is.
]]
local circuit, leases, meta, events, history, totals = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]
local expected, rev, generation, data = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local deadline, not_before, token = tonumber(ARGV[5]), tonumber(ARGV[6]), ARGV[7]
local name, event, keep, most, followed = ARGV[8], ARGV[9], tonumber(ARGV[10]), ARGV[11], tonumber(ARGV[12])
local unseen, epoch, change, opens = ARGV[13], ARGV[14], ARGV[15], ARGV[16]
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

-- How long it was open is told by this clock alone, by which readers tell how long it has been.
if change ~= "" then
  redis.call("HINCRBY", totals, change, 1)
end
local since = redis.call("HGET", totals, "since")
if since then
  redis.call("HINCRBY", totals, "o", string.format("%.0f", math.max(0, now - since)))
  redis.call("HDEL", totals, "since")
end
if opens == "1" then
  redis.call("HSET", totals, "since", string.format("%.0f", now))
end
redis.call("PEXPIRE", totals, unseen)

redis.call("XADD", events, "MAXLEN", "~", most, "*",
  "name", name, "rev", rev, "seq", seq, "data", data, "event", event, "at", now)
if redis.call("XLEN", events) > keep then
  local stored_at = tonumber((redis.call("HGET", history, "events") or ""):match("^%d+"))
  if stored_at then
    redis.call("XTRIM", events, "MINID", "~", string.format("%.0f", math.min(stored_at, now - followed)))
  else
    redis.call("XTRIM", events, "MAXLEN", "~", keep)
  end
end
return answer(1)
