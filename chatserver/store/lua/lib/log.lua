-- What the scripts that write to a room's log share, after lib/epoch.lua. Each of them has
-- KEYS[1] room:{room}:log      KEYS[2] room:{room}:meta    KEYS[3] room:{room}:sent:<user>
-- KEYS[4] the room's channel   KEYS[5] room:{room}:info    KEYS[6] room:{room}:members
-- KEYS[7] room:{room}:banned   KEYS[8] room:{room}:muted   KEYS[9] room:{room}:reads
-- KEYS[10] room:{room}:state   KEYS[11] room:{room}:series:<user>
-- ARGV[1] message id           ARGV[2] payload             ARGV[3] epoch to begin if need be
-- ARGV[4] SPUBLISH or PUBLISH  ARGV[5] entries to keep     ARGV[6] ms to keep the log of a silent room
-- ARGV[7] ms to keep its epoch and offset                  ARGV[8] ms to keep the message ids
-- ARGV[9] 1 to announce it at once, 0 if announce.lua will
-- ARGV[10] user                ARGV[11] now, unix ms       ARGV[12] 1 if the payload is ciphertext, else 0
-- ARGV[13] series of the message, '' for none               ARGV[14] its number in that

-- epoch_here returns what current_epoch does, and forgets a room of which nothing is left.
local function epoch_here()
  local epoch, before, last, announced, lost = current_epoch(KEYS[2], KEYS[4], ARGV[4], ARGV[3])
  if lost then
    redis.call('DEL', KEYS[1], KEYS[3], KEYS[9], KEYS[10], KEYS[11])
  end
  return epoch, before, last, announced
end

-- newest_of_series returns the number of the last message of this one's series, or nil.
local function newest_of_series()
  local newest = ARGV[13] ~= '' and redis.call('HGET', KEYS[11], ARGV[13])
  return newest and tonumber(string.match(newest, '^%d+'))
end

-- remember_series notes the number; of so many series the one that was silent longest goes.
local SERIES_KEPT = 16
local function remember_series(offset)
  if ARGV[13] == '' then return end
  redis.call('HSET', KEYS[11], ARGV[13], ARGV[14] .. ' ' .. offset)
  redis.call('PEXPIRE', KEYS[11], ARGV[8])
  if redis.call('HLEN', KEYS[11]) > SERIES_KEPT then
    local all, oldest, least = redis.call('HGETALL', KEYS[11]), nil, nil
    for i = 1, #all, 2 do
      local last = tonumber(string.match(all[i + 1], '%d+$'))
      if not least or last < least then oldest, least = all[i], last end
    end
    redis.call('HDEL', KEYS[11], oldest)
  end
end

-- sent_before returns the answer for a message that is there already, or nil.
local function sent_before(epoch, before)
  local offset
  -- The list holds id, offset, id, offset... newest first; an id is at an even index.
  for _, at in ipairs(redis.call('LPOS', KEYS[3], ARGV[1], 'COUNT', 0)) do
    if at % 2 == 0 then
      offset = redis.call('LINDEX', KEYS[3], at + 1)
      break
    end
  end
  if not offset then
    -- A sender who numbers messages may have moved on by more than the list holds, while an
    -- old try was on its way on a server that stood still. Where it is is forgotten.
    local newest = newest_of_series()
    if not newest or newest < tonumber(ARGV[14]) then return nil end
    offset = '0'
  end
  -- A write, so that a WAIT after this script covers what the first try wrote.
  redis.call('PEXPIRE', KEYS[2], ARGV[7])
  return offset .. ' ' .. epoch_at(offset, epoch, before) .. ' 1 - 0'
end

-- barred returns why the user may not write here, or nil; and what the room is, for the answer:
-- "<kind or -> <1 if anybody is banned or muted here, else 0>". A room without an info (a direct
-- one, say) has no rules.
local function barred()
  local info = redis.call('HMGET', KEYS[5], 'kind', 'encrypted', 'closed', 'guarded')
  local is = (info[1] or '-') .. (info[4] and ' 1' or ' 0')
  if info[2] and ARGV[12] ~= '1' then
    return 'plaintext', is
  end
  if not info[1] or info[1] == 'direct' then
    return nil, is
  end
  if info[3] then
    return 'closed', is
  end
  if info[4] then
    for _, rule in ipairs({{KEYS[7], 'banned'}, {KEYS[8], 'muted'}}) do
      local ends = redis.call('HGET', rule[1], ARGV[10])
      if ends and (ends == '0' or tonumber(ends) > tonumber(ARGV[11])) then
        return rule[2], is
      end
    end
  end
  if redis.call('HEXISTS', KEYS[6], ARGV[10]) == 0 then
    return 'stranger', is
  end
  return nil, is
end

-- trim drops entries that are too old; the number is XADD's to hold.
local function trim(age)
  local oldest = redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', 32)
  local keep = nil
  for _, entry in ipairs(oldest) do
    local at = 0
    for i = 1, #entry[2], 2 do
      if entry[2][i] == 't' then at = tonumber(entry[2][i + 1]) end
    end
    if at > tonumber(ARGV[11]) - age then break end
    keep = entry[1]
  end
  if keep then
    local next_id = string.format('%.0f', tonumber(string.match(keep, '^%d+')) + 1)
    redis.call('XTRIM', KEYS[1], 'MINID', next_id)
  end
end

-- append puts the payload at the end of the log and has it announced. A message counts as
-- unread; what is said about one (an edit, a reaction) does not. Returns the offset.
local function append(epoch, last, announced, counts)
  local keep = redis.call('HMGET', KEYS[5], 'keepMessages', 'keepMillis')
  local most, age = tonumber(keep[1] or ARGV[5]), tonumber(keep[2] or ARGV[6])
  -- %.0f: tostring would round from 10^14 on.
  local offset = string.format('%.0f', redis.call('HINCRBY', KEYS[2], 'offset', 1))
  -- announce.lua takes the first field for the payload.
  local entry = {'XADD', KEYS[1], 'MAXLEN', '~', most, offset .. '-0', 'm', ARGV[2], 'u', ARGV[10], 't', ARGV[11], 'n'}
  if counts then
    entry[#entry + 1] = redis.call('HINCRBY', KEYS[2], 'messages', 1)
    redis.call('HSET', KEYS[9], ARGV[10], offset .. ' ' .. entry[#entry]) -- who writes has read
  else
    entry[#entry + 1] = redis.call('HGET', KEYS[2], 'messages') or 0
    entry[#entry + 1] = 'about'
    entry[#entry + 1] = 1
  end
  redis.call(unpack(entry))
  if tonumber(offset) % 16 == 0 then
    trim(age)
  end
  redis.call('PEXPIRE', KEYS[1], age)
  redis.call('PEXPIRE', KEYS[10], age)
  redis.call('PEXPIRE', KEYS[9], ARGV[7])
  redis.call('PEXPIRE', KEYS[2], ARGV[7])
  redis.call('LPUSH', KEYS[3], offset, ARGV[1])
  redis.call('LTRIM', KEYS[3], 0, 127)
  redis.call('PEXPIRE', KEYS[3], ARGV[8])
  remember_series(offset)
  if ARGV[9] == '1' then
    if announced then
      redis.call('HDEL', KEYS[2], 'announced')
    end
    redis.call(ARGV[4], KEYS[4], offset .. ' ' .. epoch .. ' ' .. ARGV[2])
  elseif not announced then
    redis.call('HSET', KEYS[2], 'announced', last)
  end
  return offset
end
