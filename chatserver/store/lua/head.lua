-- Tells the position of a room's newest message; begins an epoch if the room has none.
-- KEYS[1] room:{room}:log
-- KEYS[2] room:{room}:meta
-- ARGV[1] epoch to begin if the room has none
-- ARGV[2] ms to keep the epoch and the offset, where there is one
-- Returns {epoch, offset}.
if redis.call('HSETNX', KEYS[2], 'epoch', ARGV[1]) == 1 then
  redis.call('DEL', KEYS[1])
end
-- A room in which nothing was ever said is forgotten within a day: asking is free.
local said = redis.call('HEXISTS', KEYS[2], 'offset') == 1
redis.call('PEXPIRE', KEYS[2], said and ARGV[2] or 86400000)
return {redis.call('HGET', KEYS[2], 'epoch'), redis.call('HGET', KEYS[2], 'offset') or '0'}
