-- Records that a server holds a session of a user.
-- KEYS[1] session:{user}
-- KEYS[2] session:{user}:held
-- ARGV[1] server
-- ARGV[2] session id
-- ARGV[3] most sessions that the user may have; 0: no limit
-- ARGV[4] now, unix ms
-- ARGV[5] live servers, space separated
-- ARGV[6] dead servers, space separated
-- Returns {'held', the user's other sids...}, or {'online'} if they are too many, or
-- {'unknown', servers...} that hold a session and are on neither list; then nothing changed.
local server, sid, most = ARGV[1], ARGV[2], tonumber(ARGV[3])

local function set(list)
  local s = {}
  for name in string.gmatch(list, '%S+') do s[name] = true end
  return s
end
local live, dead = set(ARGV[5]), set(ARGV[6])

local unknown, gone, others, seen, same = {'unknown'}, {}, {'held'}, {}, false
for _, holder in ipairs(redis.call('HKEYS', KEYS[2])) do
  local at, id = string.match(holder, '^(%S+) (.+)$')
  if dead[at] then
    gone[#gone + 1] = holder
  elseif not live[at] then
    unknown[#unknown + 1] = at
  elseif id == sid then
    same = true
  elseif not seen[id] then
    seen[id] = true
    others[#others + 1] = id
  end
end

if #unknown > 1 then
  return unknown
end
for _, holder in ipairs(gone) do
  redis.call('HDEL', KEYS[2], holder)
end
if most > 0 and #others - 1 >= most and not same then
  return {'online'}
end
redis.call('HSET', KEYS[2], server .. ' ' .. sid, 1)
redis.call('HSET', KEYS[1], 'status', 'online', 'server', server)
redis.call('HSETNX', KEYS[1], 'since', ARGV[4])
return others
