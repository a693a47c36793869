--[[ lease: the right to make a trial call.

  KEYS  circuit (hash), its leases (hash)
  ARGV  generation id, token, leases at once, ms of a lease, ms beyond which it is never renewed, deadline in ms
  Returns {1 when granted else 0, now in ms}

  A refusal changes nothing but what has already ended: it never extends a lease.
]]
local circuit, leases = KEYS[1], KEYS[2]
local generation, token, slots = ARGV[1], ARGV[2], tonumber(ARGV[3])
local lease_for, longest_for, deadline = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
local time = redis.call("TIME")
local now = time[1] * 1000 + math.floor(time[2] / 1000)

if now > deadline or redis.call("HGET", circuit, "id") ~= generation then
  return {0, now}
end

local held = redis.call("HGETALL", leases)
local count = 0
for i = 1, #held, 2 do
  local left = tonumber(held[i + 1]:match("^(%d+):")) - now
  if left <= 0 or left > lease_for then -- ended, or given before the clock was set back and not renewed since
    redis.call("HDEL", leases, held[i])
  elseif held[i] == token then
    return {1, now}
  else
    count = count + 1
  end
end
if count >= slots then
  return {0, now}
end

local longest = now + longest_for
local ends = math.min(now + lease_for, longest)
redis.call("HSET", leases, token, string.format("%.0f:%.0f", ends, longest))
redis.call("PEXPIRE", leases, longest_for + lease_for)
return {1, now}
