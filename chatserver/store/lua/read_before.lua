-- Reads a room's log backwards; begins an epoch if need be.
-- KEYS[1] room:{room}:log
-- KEYS[2] room:{room}:meta
-- KEYS[3] the room's channel
-- ARGV[1] epoch to begin if need be
-- ARGV[2] ms to keep the epoch and the offset, where there is one
-- ARGV[3] SPUBLISH or PUBLISH
-- ARGV[4] offset before which to start, 0 for the newest
-- ARGV[5] most entries to return, 0 for all
-- Returns as read.lua, the entries newest first.
local epoch, before, offset, announced, lost = current_epoch(KEYS[2], KEYS[3], ARGV[3], ARGV[1])
if lost then
  redis.call('DEL', KEYS[1])
end
-- A room in which nothing was ever said is forgotten within a day: asking is free.
redis.call('PEXPIRE', KEYS[2], offset ~= '0' and ARGV[2] or 86400000)

local last = announced or offset
local oldest = redis.call('XRANGE', KEYS[1], '-', last .. '-0', 'COUNT', 1)
local from = last .. '-0'
if ARGV[4] ~= '0' and tonumber(ARGV[4]) <= tonumber(last) then
  from = '(' .. ARGV[4] .. '-0'
end
local entries
if ARGV[5] == '0' then
  entries = redis.call('XREVRANGE', KEYS[1], from, '-')
else
  entries = redis.call('XREVRANGE', KEYS[1], from, '-', 'COUNT', ARGV[5])
end
return {epoch, before, last, oldest[1] and oldest[1][1] or '', entries}
