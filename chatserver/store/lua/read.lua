-- Reads a part of a room's log; begins an epoch if need be.
-- KEYS[1] room:{room}:log      KEYS[2] room:{room}:meta   KEYS[3] the room's channel
-- KEYS[4] room:{room}:state    KEYS[5] room:{room}:reads
-- ARGV[1] epoch to begin if need be
-- ARGV[2] ms to keep the epoch and the offset, where there is one
-- ARGV[3] SPUBLISH or PUBLISH
-- ARGV[4] after: read forwards from there; before: backwards
-- ARGV[5] that offset; before 0 is the newest
-- ARGV[6] most entries to return, 0 for all
-- Returns {epoch, epochs it continues, last offset, id of the oldest entry kept or '', {entries in
-- the order asked for}, {offset, state, offset, state...} of messages about which something is kept}.
local epoch, before, offset, announced, lost = current_epoch(KEYS[2], KEYS[3], ARGV[3], ARGV[1])
if lost then
  redis.call('DEL', KEYS[1], KEYS[4], KEYS[5])
end
-- A room in which nothing was ever said is forgotten within a day: asking is free.
redis.call('PEXPIRE', KEYS[2], offset ~= '0' and ARGV[2] or 86400000)

local last = announced or offset
local oldest = redis.call('XRANGE', KEYS[1], '-', last .. '-0', 'COUNT', 1)
local forwards, start = ARGV[4] == 'after', tonumber(ARGV[5])
local call
if forwards then
  call = {'XRANGE', KEYS[1], '(' .. ARGV[5] .. '-0', last .. '-0'}
elseif start > 0 and start <= tonumber(last) then
  call = {'XREVRANGE', KEYS[1], '(' .. ARGV[5] .. '-0', '-'}
else
  call = {'XREVRANGE', KEYS[1], last .. '-0', '-'}
  start = tonumber(last) + 1
end
if ARGV[6] ~= '0' then
  call[5], call[6] = 'COUNT', ARGV[6]
end
local entries = redis.call(unpack(call))

-- A deleted message has left the log: its place is between the entries, or between them and
-- where reading started.
local states = {}
if #entries > 0 and redis.call('EXISTS', KEYS[4]) == 1 then
  local last_read = tonumber(string.match(entries[#entries][1], '^%d+'))
  local low, high = start + 1, last_read
  if not forwards then
    low, high = last_read, start - 1
  end
  for at = math.max(low, 1), high do
    local place = string.format('%.0f', at)
    local state = redis.call('HGET', KEYS[4], place)
    if state then
      states[#states + 1] = place
      states[#states + 1] = state
    end
  end
end
return {epoch, before, last, oldest[1] and oldest[1][1] or '', entries, states}
