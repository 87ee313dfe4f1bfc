-- Tells the position of a room's newest message; begins an epoch if need be.
-- KEYS[1] room:{room}:log
-- KEYS[2] room:{room}:meta
-- KEYS[3] the room's channel
-- KEYS[4] room:{room}:state
-- KEYS[5] room:{room}:reads
-- ARGV[1] epoch to begin if need be
-- ARGV[2] ms to keep the epoch and the offset, where there is one
-- ARGV[3] SPUBLISH or PUBLISH
-- Returns {epoch, epochs it continues, offset}.
local epoch, before, offset, announced, lost = current_epoch(KEYS[2], KEYS[3], ARGV[3], ARGV[1])
if lost then
  redis.call('DEL', KEYS[1], KEYS[4], KEYS[5])
end
-- A room in which nothing was ever said is forgotten within a day: asking is free.
redis.call('PEXPIRE', KEYS[2], offset ~= '0' and ARGV[2] or 86400000)
return {epoch, before, announced or offset}
