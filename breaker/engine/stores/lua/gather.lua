--[[ gather: read many hashes at one moment.

  KEYS  meta (hash), then the hashes
  ARGV  epoch to use if there is none
  Returns {now in ms, epoch, count of writes, {place of a hash that is not empty (from 1), its HGETALL, ...}}
]]
local meta, epoch = KEYS[1], ARGV[1]
local time = redis.call("TIME")
local now = time[1] * 1000 + math.floor(time[2] / 1000)

redis.call("HSETNX", meta, "epoch", epoch)
local found = {}
for i = 2, #KEYS do
  local hash = redis.call("HGETALL", KEYS[i])
  if #hash > 0 then
    found[#found + 1] = i - 1
    found[#found + 1] = hash
  end
end
return {now, redis.call("HGET", meta, "epoch"), tonumber(redis.call("HGET", meta, "seq") or "0"), found}
