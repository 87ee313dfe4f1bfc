-- Puts notices into one shard of the queue, due at once.
-- KEYS[1] notices:{n}   KEYS[2] notices:{n}:body   KEYS[3] notices:{n}:tries
-- ARGV[1] most notices a shard may have
-- ARGV[2...] id, body, id, body...
-- Returns how many had to go to keep within that: those that were due first.
local time = redis.call('TIME')
local now = string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000))
for i = 2, #ARGV, 2 do
  if redis.call('HSETNX', KEYS[2], ARGV[i], ARGV[i + 1]) == 1 then
    redis.call('ZADD', KEYS[1], now, ARGV[i])
  end
end
local over = redis.call('ZCARD', KEYS[1]) - tonumber(ARGV[1])
if over <= 0 then
  return 0
end
local gone = redis.call('ZRANGE', KEYS[1], 0, over - 1)
for _, id in ipairs(gone) do
  redis.call('ZREM', KEYS[1], id)
  redis.call('HDEL', KEYS[2], id)
  redis.call('HDEL', KEYS[3], id)
end
return #gone
