-- Appends one message to a room's log and announces it on the room's channel, once.
-- KEYS and ARGV: see lib/log.lua.
-- Returns "<offset> <epoch> <1 if it was there before, else 0> <kind of the room or -> <1 if it is
-- guarded, else 0>", or "!<why not>": plaintext, closed, banned, muted or stranger.
local epoch, before, last, announced = epoch_here()
local sent = sent_before(epoch, before)
if sent then
  return sent
end
local why, is = barred()
if why then
  return '!' .. why
end
return append(epoch, last, announced, true) .. ' ' .. epoch .. ' 0 ' .. is
