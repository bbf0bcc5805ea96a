-- command: the life of a command after somebody asked for it
-- @version 1.2.1
-- @include command
--
-- @form time <now> <generation>
--   Answers the store's time.
-- @form submit <now> <generation> <id> <key> <model> <control> <value> <origin> <user> <until ms>
--   Records a command and queues it. key is the idempotency key, may be empty;
--   until is when, by the store's time, the command's time is over, whenever
--   the call arrives.
-- @form claim <now> <generation> <id> <channel> <epoch> <token> <queue entry> <claimed before 1|0>
--   Lets the channel's owner execute it: OK once, and again for the same token,
--   so that a lost reply does no harm. It looks again whether the command may
--   be given, for the model, its binding or the limits may have changed.
--   claimed before says that the caller claimed it with another token: where it
--   is queued nevertheless, the store went back to older data.
-- @form finish <now> <generation> <id> <token> <state> <reason> <detail> <read back> [<claimed 1|0>]
--   Stores the final state. claimed says that the caller knows that its claim was
--   done: where the command is queued nevertheless, the store went back to older data.
-- @form cancel <now> <generation> <id> <by>
--   Ends what was not claimed yet.
-- @form expire <now> <generation> <id> <claimed before 1|0>
--   Ends what was not claimed yet and whose time is over. claimed before as above.
-- @form record <now> <generation> <id> <token> <model> <control> <channel> <point> <value> <epoch> <state> <reason> <detail> <read back> <ms ago>
--   Records what the channel's owner does by itself: the safe value of a control.
--   executing, with the owner's epoch, before it is written, and a final state
--   after that, for which there need be no record before. ms ago is when it began.
-- @form held <now> <generation> <channel>
--   Answers how long ago each control that has a safe value was last operated, or
--   whoever operated it last said that it is alive.
-- @form alive <now> <generation> <origin>
--   The origin of commands says that it is alive: it stands behind what it gave.
-- @reply the code and the command's record as name, value, …; the time for time; point, ms, … for held
-- @code OK         it is so now
-- @code REJECTED   (submit) recorded, and will not be executed; the record says why
-- @code DUPLICATE  (submit) known already; the record is the first one's
-- @code NO         not possible in the state that the record shows
-- @code LATE       (submit) the command's time is over; nothing is recorded
-- @code FENCED     (claim, record) another engine owns the channel
-- @code NOTFOUND   there is no such command
-- @code INVALID    there is no such operation
-- @keys r  comsrv:<channel>:fence  (claim, record) the epoch of the channel's owner
-- @keys rw cmd:<channel>:held      point → when a control with a safe value was last operated, and by what origin
-- @keys rw cmd:sources             origin → when it last said that it is alive
local op, id = ARGV[1], ARGV[4]
local refusal = guard(ARGV[3])
if refusal then return refusal end
local now = now_ms(ARGV[2])

if op == 'time' then return { 'OK', string.format('%.0f', tonumber(now)) } end

if op == 'submit' then
  local left = tonumber(ARGV[11]) - tonumber(now)
  if left < 0 and not command_load(id) then return { 'LATE' } end
  return command_submit(now, { id = id, key = ARGV[5], model = ARGV[6], control = ARGV[7], value = ARGV[8],
    origin = ARGV[9], user = ARGV[10], timeout = math.max(left, 0) }, true)
end

if op == 'alive' then
  redis.call('HSET', P .. 'cmd:sources', id, now)
  return { 'OK' }
end

if op == 'held' then
  local r, all = { 'OK' }, redis.call('HGETALL', P .. 'cmd:' .. id .. ':held')
  for i = 1, #all, 2 do
    local at, origin = string.match(all[i + 1], '^(%d+) (.*)$')
    local last
    -- a time to come is of a clock that was set back since, and says nothing: else
    -- the value would stand until the clock is there again
    for _, ms in ipairs({ at or '', at and redis.call('HGET', P .. 'cmd:sources', origin) or '' }) do
      ms = number(ms)
      if ms and ms <= tonumber(now) + COMMAND_SKEW then last = math.max(last or ms, ms) end
    end
    if last then
      r[#r + 1] = all[i]
      r[#r + 1] = string.format('%.0f', tonumber(now) - last)
    end
  end
  return r
end

local c = command_load(id)

if op == 'record' then
  local token, channel, epoch, state = ARGV[5], ARGV[8], ARGV[11], ARGV[12]
  if epoch ~= '' and redis.call('HGET', P .. 'comsrv:' .. channel .. ':fence', 'epoch') ~= epoch then return { 'FENCED' } end
  if c and c.token ~= token then return command_reply('NO', c) end
  if c and c.state == state then return command_reply('OK', c) end
  -- unknown may still be settled, but what is over does not begin again
  if c and FINAL[c.state] and (c.state ~= 'unknown' or state == 'executing') then return command_reply('NO', c) end
  if not c then
    local created = string.format('%.0f', tonumber(now) - tonumber(ARGV[16]))
    c = { id = id, token = token, epoch = epoch, model = ARGV[6], control = ARGV[7], channel = channel, point = ARGV[9],
      value = ARGV[10], origin = 'failsafe', user = '', created = created, deadline = created }
    if state == 'executing' then -- so that the next owner ends it, should this one not come to it
      c.entry = redis.call('XADD', P .. 'cmd:' .. channel .. ':queue', '*', 'id', id, 'point', c.point, 'value', c.value)
    end
    command_store(c, 0)
  end
  c.read_back = ARGV[15]
  command_move(now, c, state, ARGV[13], ARGV[14])
  return command_reply('OK', c)
end

-- Ends a queued command that the caller claimed before.
local function went_back()
  command_move(now, c, 'unknown', 'store_went_back', 'it was claimed before, and the store has lost what became of it')
  return command_reply('NO', c)
end

if op == 'claim' then
  local channel, epoch, token, entry = ARGV[5], ARGV[6], ARGV[7], ARGV[8]
  if redis.call('HGET', P .. 'comsrv:' .. channel .. ':fence', 'epoch') ~= epoch then return { 'FENCED' } end
  if not c or c.channel ~= channel or FINAL[c.state] then -- nothing to execute behind this entry
    redis.call('XDEL', P .. 'cmd:' .. channel .. ':queue', entry)
    if not c then return { 'NOTFOUND' } end
    return command_reply('NO', c)
  end
  if c.state == 'executing' then
    if c.token == token then return command_reply('OK', c) end
    if c.epoch == epoch then return command_reply('NO', c) end
    -- claimed by an owner that is gone: whether it was sent, nobody knows
    command_move(now, c, 'unknown', 'owner_lost', 'the engine that executed it ended before the result was known')
    return command_reply('NO', c)
  end
  if c.state ~= 'queued' then return command_reply('NO', c) end
  if ARGV[9] == '1' then return went_back() end
  if command_late(now, c) then
    command_move(now, c, 'expired', 'timeout', 'the channel did not take it in time')
    return command_reply('NO', c)
  end
  local again = { model = c.model, control = c.control, value = c.value }
  local reason, detail = command_refusal(again)
  if not reason and (again.channel ~= c.channel or again.point ~= c.point) then
    reason, detail = 'no_mapping', c.model .. ':' .. c.control .. ' is bound to another point now'
  end
  if reason then
    command_move(now, c, 'rejected', reason, detail)
    return command_reply('NO', c)
  end
  if again.policy and field(again.policy, 'safe') ~= nil then -- from now on somebody has to stand behind it
    redis.call('HSET', P .. 'cmd:' .. channel .. ':held', c.point, now .. ' ' .. c.origin)
  end
  c.epoch, c.token = epoch, token
  command_move(now, c, 'executing', '', '')
  return command_reply('OK', c)
end

if not c then return { 'NOTFOUND' } end
if op == 'finish' then
  local token, state = ARGV[5], ARGV[6]
  -- who claimed it and knows what became of it keeps it from being executed again
  local back = ARGV[10] == '1' and c.token == '' and (c.state == 'queued' or c.state == 'unknown' or c.state == 'superseded')
  if c.token ~= token and not back then return command_reply('NO', c) end
  if c.state == state then return command_reply('OK', c) end
  -- unknown may still be settled by whoever executed it
  if c.state ~= 'executing' and c.state ~= 'unknown' and not back then return command_reply('NO', c) end
  c.token, c.read_back = token, ARGV[9]
  command_move(now, c, state, ARGV[7], ARGV[8])
  return command_reply('OK', c)
end
if op == 'cancel' then
  if c.state ~= 'queued' then return command_reply('NO', c) end
  command_move(now, c, 'cancelled', 'cancelled', 'by ' .. ARGV[5])
  return command_reply('OK', c)
end
if op == 'expire' then
  if c.state ~= 'queued' or not command_late(now, c) then return command_reply('NO', c) end
  if ARGV[5] == '1' then return went_back() end
  command_move(now, c, 'expired', 'timeout', 'the channel did not take it in time')
  return command_reply('OK', c)
end
return { 'INVALID', 'unknown operation "' .. tostring(op) .. '"' }
