-- Notes how far a user has read a room. It only moves forward.
-- KEYS[1] room:{room}:log   KEYS[2] room:{room}:meta   KEYS[3] room:{room}:reads
-- ARGV[1] user   ARGV[2] offset   ARGV[3] ms to keep the positions
-- Returns the offset that counts now, and 1 if it moved.
local head = redis.call('HMGET', KEYS[2], 'offset', 'messages')
local last = tonumber(head[1] or 0)
local upto = math.min(tonumber(ARGV[2]), last)
local before = tonumber(string.match(redis.call('HGET', KEYS[3], ARGV[1]) or '', '^%d+') or -1)
if upto <= before then
  return {before, 0}
end
-- How many messages there were up to that offset: the entry there or the one before it knows.
local n = 0
if upto == last then
  n = tonumber(head[2] or 0)
else
  local entry = redis.call('XREVRANGE', KEYS[1], string.format('%.0f', upto) .. '-0', '-', 'COUNT', 1)[1]
  for i = 1, entry and #entry[2] or 0, 2 do
    if entry[2][i] == 'n' then n = tonumber(entry[2][i + 1]) end
  end
end
redis.call('HSET', KEYS[3], ARGV[1], string.format('%.0f %.0f', upto, n))
redis.call('PEXPIRE', KEYS[3], ARGV[3])
return {upto, 1}
