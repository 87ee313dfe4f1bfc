-- Drops rooms from the index if nobody entered them meanwhile.
-- KEYS[1] rooms
-- ARGV room, score that was read, room, score...
-- Returns how many were dropped.
local dropped = 0
for i = 1, #ARGV, 2 do
  local score = redis.call('ZSCORE', KEYS[1], ARGV[i])
  if score and tonumber(score) == tonumber(ARGV[i + 1]) then
    dropped = dropped + redis.call('ZREM', KEYS[1], ARGV[i])
  end
end
return dropped
