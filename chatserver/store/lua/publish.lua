-- Appends one message to a room's log and announces it on the room's channel, once.
-- KEYS[1] room:{room}:log
-- KEYS[2] room:{room}:meta
-- KEYS[3] room:{room}:sent:<user>
-- KEYS[4] the room's channel
-- ARGV[1] message id
-- ARGV[2] payload
-- ARGV[3] epoch to begin if need be
-- ARGV[4] SPUBLISH or PUBLISH
-- ARGV[5] messages to keep
-- ARGV[6] ms to keep the log of a silent room
-- ARGV[7] ms to keep its epoch and offset
-- ARGV[8] ms to keep the message ids
-- ARGV[9] 1 to announce it at once, 0 if announce.lua will
-- Returns "<offset> <epoch> <1 if it was there before, else 0>".
local id, payload, send = ARGV[1], ARGV[2], ARGV[4]

local epoch, before, last, announced, lost = current_epoch(KEYS[2], KEYS[4], send, ARGV[3])
if lost then
  redis.call('DEL', KEYS[1], KEYS[3])
end

-- The list holds id, offset, id, offset... newest first; an id is at an even index.
for _, at in ipairs(redis.call('LPOS', KEYS[3], id, 'COUNT', 0)) do
  if at % 2 == 0 then
    -- A write, so that a WAIT after this script covers what the first try wrote.
    redis.call('PEXPIRE', KEYS[3], ARGV[8])
    local offset = redis.call('LINDEX', KEYS[3], at + 1)
    return offset .. ' ' .. epoch_at(offset, epoch, before) .. ' 1'
  end
end

-- %.0f: tostring would round from 10^14 on.
local offset = string.format('%.0f', redis.call('HINCRBY', KEYS[2], 'offset', 1))
redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[5], offset .. '-0', 'm', payload)
redis.call('PEXPIRE', KEYS[1], ARGV[6])
redis.call('PEXPIRE', KEYS[2], ARGV[7])
redis.call('LPUSH', KEYS[3], offset, id)
redis.call('LTRIM', KEYS[3], 0, 127)
redis.call('PEXPIRE', KEYS[3], ARGV[8])
if ARGV[9] == '1' then
  if announced then
    redis.call('HDEL', KEYS[2], 'announced')
  end
  redis.call(send, KEYS[4], offset .. ' ' .. epoch .. ' ' .. payload)
elseif not announced then
  redis.call('HSET', KEYS[2], 'announced', last)
end
return offset .. ' ' .. epoch .. ' 0'
