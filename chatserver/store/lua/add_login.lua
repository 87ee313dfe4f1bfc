-- Adds a login, and prunes the expired ones.
-- KEYS[1] logins:{user}
-- KEYS[2] user:{user}
-- ARGV[1] session id
-- ARGV[2] the login, JSON
-- ARGV[3] now, unix ms
-- ARGV[4] most logins to keep
-- ARGV[5] hash of the password that the login was proved with; empty: with something else
-- Returns {'added', session ids that are too many now, least recently used first...},
-- {'disabled'} or {'changed'} if the account may not log in or has another password by now;
-- then nothing changed.
if redis.call('HEXISTS', KEYS[2], 'disabled') == 1 then
  return {'disabled'}
end
if ARGV[5] ~= '' and redis.call('HGET', KEYS[2], 'password') ~= ARGV[5] then
  return {'changed'}
end

local sid, now, most = ARGV[1], tonumber(ARGV[3]), tonumber(ARGV[4])
redis.call('HSET', KEYS[1], sid, ARGV[2])

local others, last = {}, cjson.decode(ARGV[2]).expires
local logins = redis.call('HGETALL', KEYS[1])
for i = 1, #logins, 2 do
  if logins[i] ~= sid then
    local login = cjson.decode(logins[i + 1])
    if login.expires <= now then
      redis.call('HDEL', KEYS[1], logins[i])
    else
      others[#others + 1] = {sid = logins[i], used = login.used}
      last = math.max(last, login.expires)
    end
  end
end
redis.call('PEXPIREAT', KEYS[1], string.format('%.0f', last))

table.sort(others, function(a, b) return a.used < b.used end)
local reply = {'added'}
for i = 1, #others + 1 - most do
  reply[i + 1] = others[i].sid
end
return reply
