--[[ found: put running totals on what was known of them before.

  KEYS  running totals (hashes)
  ARGV  ms that they are kept, then for each of them a JSON list [field, count, field, count ...]
  Returns nothing

  What is counted since the store began is added to what was known, once. From then on a field that is lower than what is
  known (the store has gone back in time) is raised to it. The time that is running counts as "o", as it does for readers.
]]
local kept_for = ARGV[1]
local time = redis.call("TIME")
local now = time[1] * 1000 + math.floor(time[2] / 1000)

for i, totals in ipairs(KEYS) do
  local known = cjson.decode(ARGV[i + 1])
  local founded = redis.call("HSETNX", totals, "founded", 1) == 0
  for f = 1, #known, 2 do
    local field, more = known[f], known[f + 1]
    if founded then
      local held = redis.call("HGET", totals, field) or 0
      if field == "o" then
        held = held + math.max(0, now - (redis.call("HGET", totals, "since") or now))
      end
      more = more - held
    end
    if more > 0 then
      redis.call("HINCRBY", totals, field, string.format("%.0f", more))
    end
  end
  redis.call("PEXPIRE", totals, kept_for)
end
