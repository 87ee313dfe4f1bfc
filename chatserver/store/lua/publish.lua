-- Appends one message to a room's log and sends it to the room's channel, once.
-- KEYS[1] room:{room}:log
-- KEYS[2] room:{room}:meta
-- KEYS[3] room:{room}:sent:<user>
-- KEYS[4] the room's channel
-- ARGV[1] message id
-- ARGV[2] payload
-- ARGV[3] epoch to begin if the room has none
-- ARGV[4] SPUBLISH or PUBLISH
-- ARGV[5] messages to keep
-- ARGV[6] ms to keep the log of a silent room
-- ARGV[7] ms to keep its epoch and offset
-- ARGV[8] ms to keep the message ids
-- Returns "<offset> <epoch> <1 if it was there before, else 0>".
local id, payload = ARGV[1], ARGV[2]

local epoch = redis.call('HGET', KEYS[2], 'epoch')
if not epoch then
  epoch = ARGV[3]
  redis.call('DEL', KEYS[1], KEYS[3])
  redis.call('HSET', KEYS[2], 'epoch', epoch)
end

-- The list holds id, offset, id, offset... newest first; an id is at an even index.
for _, at in ipairs(redis.call('LPOS', KEYS[3], id, 'COUNT', 0)) do
  if at % 2 == 0 then
    return redis.call('LINDEX', KEYS[3], at + 1) .. ' ' .. epoch .. ' 1'
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
redis.call(ARGV[4], KEYS[4], offset .. ' ' .. epoch .. ' ' .. payload)
return offset .. ' ' .. epoch .. ' 0'
