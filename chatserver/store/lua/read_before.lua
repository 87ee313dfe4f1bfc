-- Reads a room's log backwards; begins an epoch if the room has none.
-- KEYS[1] room:{room}:log
-- KEYS[2] room:{room}:meta
-- ARGV[1] epoch to begin if the room has none
-- ARGV[2] ms to keep the epoch and the offset, where there is one
-- ARGV[3] where to start, as XREVRANGE understands it
-- ARGV[4] most entries to return, 0 for all
-- Returns {epoch, last offset, id of the oldest entry kept or '', entries newest first...}.
if redis.call('HSETNX', KEYS[2], 'epoch', ARGV[1]) == 1 then
  redis.call('DEL', KEYS[1])
end
-- A room in which nothing was ever said is forgotten within a day: asking is free.
local said = redis.call('HEXISTS', KEYS[2], 'offset') == 1
redis.call('PEXPIRE', KEYS[2], said and ARGV[2] or 86400000)

local oldest = redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', 1)
local entries
if ARGV[4] == '0' then
  entries = redis.call('XREVRANGE', KEYS[1], ARGV[3], '-')
else
  entries = redis.call('XREVRANGE', KEYS[1], ARGV[3], '-', 'COUNT', ARGV[4])
end
table.insert(entries, 1, redis.call('HGET', KEYS[2], 'epoch'))
table.insert(entries, 2, redis.call('HGET', KEYS[2], 'offset') or '0')
table.insert(entries, 3, oldest[1] and oldest[1][1] or '')
return entries
