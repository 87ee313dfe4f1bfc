-- Says something about a message of the log: an edit, a deletion or a reaction, which is an
-- entry of the log itself, and keeps what became of the message for those who read it later.
-- KEYS and ARGV[1..14]: see lib/log.lua.
-- ARGV[15] edit, delete, react or unreact   ARGV[16] offset of the message
-- ARGV[17] edit: the new content; react and unreact: the emoji
-- ARGV[18] 1 if the user may delete what others wrote, else 0
-- ARGV[19] most reactions to a message
-- Returns "<offset> <epoch> <1 if it was there before, else 0> <kind> <guarded>", or "!<why not>": as
-- publish.lua, and gone, foreign, many, or same (the reaction is as asked already).
local op, ref = ARGV[15], ARGV[16]
local epoch, before, last, announced = epoch_here()
local sent = sent_before(epoch, before)
if sent then
  return sent
end
-- Deleting is no writing: whoever is muted may take back what they said.
local why, is = barred()
if why and not (op == 'delete' and why ~= 'stranger') and not (op == 'delete' and ARGV[18] == '1') and not (why == 'plaintext' and op ~= 'edit') then
  return '!' .. why
end

local entry = redis.call('XRANGE', KEYS[1], ref .. '-0', ref .. '-0')[1]
if not entry then
  return '!gone'
end
local of = {}
for i = 1, #entry[2], 2 do
  of[entry[2][i]] = entry[2][i + 1]
end
if of.about then
  return '!gone'
end
local state = cjson.decode(redis.call('HGET', KEYS[10], ref) or '{}')

if op == 'edit' then
  if of.u ~= ARGV[10] then return '!foreign' end
  state.e, state.at = ARGV[17], ARGV[11]
elseif op == 'delete' then
  if of.u ~= ARGV[10] and ARGV[18] ~= '1' then return '!foreign' end
  state = {d = ARGV[10], u = of.u, t = of.t}
  redis.call('XDEL', KEYS[1], ref .. '-0') -- the text is gone; the offset stays taken
else
  local reactions = state.r or {}
  local total, at, mine = 0, nil, nil
  for i, reaction in ipairs(reactions) do
    total = total + #reaction.u
    if reaction.e == ARGV[17] then
      at = i
      for j, user in ipairs(reaction.u) do
        if user == ARGV[10] then mine = j end
      end
    end
  end
  if (op == 'react') == (mine ~= nil) then return '!same' end
  if op == 'react' then
    if total >= tonumber(ARGV[19]) then return '!many' end
    if not at then
      at = #reactions + 1
      reactions[at] = {e = ARGV[17], u = {}}
    end
    table.insert(reactions[at].u, ARGV[10])
  else
    table.remove(reactions[at].u, mine)
    if #reactions[at].u == 0 then table.remove(reactions, at) end
  end
  state.r = #reactions > 0 and reactions or nil
end

if next(state) then
  redis.call('HSET', KEYS[10], ref, cjson.encode(state))
else
  redis.call('HDEL', KEYS[10], ref)
end
local offset = append(epoch, last, announced, false)
-- What is kept about messages that left the log goes once it outnumbers the log.
if redis.call('HLEN', KEYS[10]) > redis.call('XLEN', KEYS[1]) + 100 then
  local oldest = redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', 1)[1]
  local first = oldest and tonumber(string.match(oldest[1], '^%d+')) or 0
  for _, kept in ipairs(redis.call('HKEYS', KEYS[10])) do
    if tonumber(kept) < first then redis.call('HDEL', KEYS[10], kept) end
  end
end
return offset .. ' ' .. epoch .. ' 0 ' .. is
