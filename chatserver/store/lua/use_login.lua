-- Notes that a login is used, and lets it live longer.
-- KEYS[1] logins:{user}
-- ARGV[1] session id
-- ARGV[2] now, unix ms
-- ARGV[3] when it expires at the earliest, unix ms; 0: as before
-- Returns 1, or 0 if there is no such login or it has expired; then nothing changed.
local now, expires = tonumber(ARGV[2]), tonumber(ARGV[3])
local text = redis.call('HGET', KEYS[1], ARGV[1])
if not text then
  return 0
end
local login = cjson.decode(text)
if login.expires <= now then
  return 0
end
login.used = math.max(login.used, now)
if expires > login.expires then
  login.expires = expires
  if redis.call('PEXPIRETIME', KEYS[1]) < expires then
    redis.call('PEXPIREAT', KEYS[1], ARGV[3])
  end
end
redis.call('HSET', KEYS[1], ARGV[1], cjson.encode(login))
return 1
