-- Announces a room's entries up to an offset on the room's channel, each once and in order.
-- Until then no one reads them. The caller knows that they cannot be lost any more.
-- KEYS[1] room:{room}:log
-- KEYS[2] room:{room}:meta
-- KEYS[3] the room's channel
-- ARGV[1] epoch in which the offset was taken
-- ARGV[2] offset
-- ARGV[3] SPUBLISH or PUBLISH
-- Returns 1, or 0 if Redis lost the entry; then nothing changed.
local now = redis.call('HMGET', KEYS[2], 'epoch', 'offset', 'announced', 'before')
if now[1] ~= ARGV[1] then
  -- An epoch has begun since. What it continues needs no announcement.
  for former, last in string.gmatch(now[4] or '', '(%S+) (%d+)') do
    if former == ARGV[1] and tonumber(last) >= tonumber(ARGV[2]) then return 1 end
  end
  return 0
end
if tonumber(now[2] or 0) < tonumber(ARGV[2]) then
  return 0
end
local announced = now[3]
if not announced or tonumber(announced) >= tonumber(ARGV[2]) then
  return 1
end
for _, entry in ipairs(redis.call('XRANGE', KEYS[1], '(' .. announced .. '-0', ARGV[2] .. '-0')) do
  redis.call(ARGV[3], KEYS[3], string.match(entry[1], '^%d+') .. ' ' .. ARGV[1] .. ' ' .. entry[2][2])
end
redis.call('HSET', KEYS[2], 'announced', ARGV[2])
return 1
