-- Makes a notice due later, if it still is in the queue.
-- KEYS[1] notices:{n}
-- ARGV[1] id   ARGV[2] ms from now
local time = redis.call('TIME')
local due = time[1] * 1000 + math.floor(time[2] / 1000) + tonumber(ARGV[2])
return redis.call('ZADD', KEYS[1], 'XX', string.format('%.0f', due), ARGV[1])
