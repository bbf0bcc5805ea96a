-- @include base
-- @include condition
-- The life of a command. Its record is command:<id>; every transition goes to
-- command:journal. A command is executed only from cmd:<channel>:queue, and
-- only after it was claimed.
--
-- @code OK         it is so now
-- @code REJECTED   a command was recorded, and will not be executed; the record says why
-- @code DUPLICATE  a command is known already; the record is the first one's
-- @keys rw command:<id>                     the record
-- @keys rw command:key:<origin>:<key>       the id of the command with this idempotency key
-- @keys wp command:journal                  every transition; on the channel, the command's id
-- @keys w  commands:counter                 makes the ids of commands that bring none
-- @keys rw cmd:<channel>:queue              the commands to execute
-- @keys wp cmd:<channel>:control            the last value of each point, for others to read
-- @keys rw cmd:<channel>:latest             the newest command of each point, which takes the place of the one before
-- @keys r  model:<id>                       whether the model exists; policies of controls; where a point comes from
-- @keys r  model:enabled                    whether it may be commanded
-- @keys r  mapping:m2c                      the point of the control
-- @keys r  point:<channel>                  the limits, the labels and the kind of the point
-- @keys r  comsrv:<channel>:<owner|status>  whether somebody executes its commands
local COMMAND_KEPT = 86400 -- seconds that a record stays after its final state
local COMMAND_JOURNAL = 100000 -- entries
local COMMAND_SKEW = 1000 -- ms that a time may be ahead of the clock, as after a failover

local FINAL = { verified = true, executed = true, failed = true, expired = true, rejected = true,
  cancelled = true, superseded = true, unknown = true }

local COMMAND_FIELDS = { 'id', 'model', 'control', 'channel', 'point', 'value', 'state', 'reason', 'detail',
  'origin', 'user', 'read_back', 'created', 'updated', 'deadline', 'entry', 'token', 'epoch' }

-- The record as a table of text, absent fields empty; nil when there is none.
local function command_load(id)
  local h = redis.call('HMGET', P .. 'command:' .. id, unpack(COMMAND_FIELDS))
  if not h[1] then return nil end
  local c = {}
  for i, name in ipairs(COMMAND_FIELDS) do c[name] = h[i] or '' end
  return c
end

-- The reply that carries a record: a code, then name and value of each field.
local function command_reply(code, c)
  local r = { code }
  for _, name in ipairs(COMMAND_FIELDS) do
    r[#r + 1] = name
    r[#r + 1] = c[name] or ''
  end
  return r
end

-- Writes the record of a new command, all but its state. timeout in ms.
local function command_store(c, timeout)
  local key = P .. 'command:' .. c.id
  redis.call('HSET', key, 'id', c.id, 'model', c.model, 'control', c.control, 'channel', c.channel,
    'point', c.point, 'value', c.value, 'origin', c.origin, 'user', c.user, 'created', c.created, 'deadline', c.deadline, 'entry', c.entry or '')
  -- a net under commands that never reach a final state: the longest life plus what is kept
  redis.call('EXPIRE', key, math.floor(timeout / 1000) + 2 * COMMAND_KEPT)
end

-- Stores a new state and tells everybody.
local function command_move(now, c, state, reason, detail)
  c.state, c.reason, c.detail, c.updated = state, reason, detail, now
  -- first what may fail: no state of which the journal does not know
  local entry = { 'XADD', P .. 'command:journal', 'MAXLEN', '~', COMMAND_JOURNAL, '*' }
  for i = 1, 15 do
    entry[#entry + 1] = COMMAND_FIELDS[i]
    entry[#entry + 1] = c[COMMAND_FIELDS[i]] or ''
  end
  redis.call(unpack(entry))
  local key = P .. 'command:' .. c.id
  redis.call('HSET', key, 'state', state, 'reason', reason, 'detail', detail, 'updated', now,
    'token', c.token or '', 'epoch', c.epoch or '', 'read_back', c.read_back or '')
  if FINAL[state] then
    redis.call('EXPIRE', key, COMMAND_KEPT)
    if c.entry and c.entry ~= '' then redis.call('XDEL', P .. 'cmd:' .. c.channel .. ':queue', c.entry) end
  end
  redis.call('PUBLISH', P .. 'command:journal', c.id)
end

-- Whether the command's time is over. Where the clock was set back since it was
-- given, nobody knows how old it is.
local function command_late(now, c)
  local at = tonumber(now)
  return at > (number(c.deadline) or 0) or at + COMMAND_SKEW < (number(c.created) or 0)
end

-- Why nobody would execute a command, as code and text, or nil. need_owner is
-- false for those who may also command channels of other programs.
local function command_unowned(channel, need_owner)
  if redis.call('EXISTS', P .. 'comsrv:' .. channel .. ':owner') == 0
    and (need_owner or redis.call('EXISTS', P .. 'comsrv:' .. channel .. ':status') == 1) then
    return 'channel_stopped', 'no engine runs channel ' .. channel
  end
  return nil
end

-- What the point's labels say against a value, where it takes no other values.
local function enum_refusal(p, target, v, value)
  if field(p, 'enum') ~= true then return nil end
  local labels = field(p, 'labels')
  if type(labels) ~= 'table' then
    return 'bad_point', target .. ' takes the values of its labels only, and has none'
  end
  local whole = math.floor(v + 0.5)
  if math.abs(v - whole) < 0.0000005 and type(labels[string.format('%.0f', whole)]) == 'string' then return nil end
  return 'enum', value .. ' is none of the labelled values of ' .. target
end

-- Why an interlock forbids to operate the control now, as text, or nil. What
-- cannot be judged, for a value is missing, bad or read by nobody, forbids too.
local function interlock_refusal(policy)
  local list = field(policy, 'interlocks')
  if list == nil then return nil end
  if type(list) ~= 'table' or #list == 0 then return 'the list of interlocks cannot be read' end
  for n, i in ipairs(list) do
    local name = 'interlock ' .. string.format('%d', n)
    if type(i) ~= 'table' then return name .. ' cannot be read' end
    if type(field(i, 'name')) == 'string' then name = name .. ' (' .. i.name .. ')' end
    local model, point, operator = field(i, 'model_id'), field(i, 'point_name'), field(i, 'operator')
    local threshold = number(field(i, 'threshold'))
    if type(model) ~= 'string' or type(point) ~= 'string' or not threshold or compare(0, operator, 0) == nil then
      return name .. ' cannot be read'
    end
    local what = name .. ': ' .. model .. ':' .. point
    local v, quality = point_value(model, point)
    if not v then return what .. (quality and (' is ' .. quality) or ' is not known') end
    local bound = redis.call('HGET', P .. 'model:' .. model, 'binding:' .. point)
    local channel = bound and string.match(bound, '^%a+:([^:]+):[^:]+$')
    if channel and command_unowned(channel, false) then return what .. ' is not current: no engine runs channel ' .. channel end
    if compare(v, operator, threshold) then
      return what .. ' is ' .. stored(v) .. ', which is ' .. operator .. ' ' .. stored(threshold)
    end
  end
  return nil
end

-- Why a command must not be given, as code and text, or nil. Fills in channel
-- and point, the stored form of the value, and the policy of the control.
local function command_refusal(c)
  local v = number(c.value)
  if not v then return 'not_finite', 'the value is not a finite decimal number' end
  c.value = stored(v)
  local known = redis.call('EXISTS', P .. 'model:' .. c.model)
  if known == 1 or redis.call('EXISTS', P .. 'model:enabled') == 1 then
    if redis.call('SISMEMBER', P .. 'model:enabled', c.model) == 0 then
      if known == 0 then return 'no_model', 'there is no model ' .. c.model end
      return 'disabled', 'model ' .. c.model .. ' is disabled'
    end
  end
  local target = redis.call('HGET', P .. 'mapping:m2c', c.model .. ':' .. c.control)
  if not target then return 'no_mapping', c.model .. ':' .. c.control .. ' is not bound to a point' end
  local channel, point = string.match(target, '^([^:]+):([^:]+)$')
  if not channel then return 'no_mapping', c.model .. ':' .. c.control .. ' is bound to "' .. target .. '", which is no channel:point' end
  c.channel, c.point = channel, point
  local text = redis.call('HGET', P .. 'point:' .. channel, point)
  local p = decode(text)
  if text and not p then return 'bad_point', 'the definition of ' .. target .. ' is not JSON' end
  if p then
    local kind = field(p, 'kind')
    if kind ~= nil and kind ~= 'control' and kind ~= 'adjustment' then
      return 'not_writable', target .. ' is a ' .. (type(kind) == 'table' and 'table' or tostring(kind))
    end
    local limit = {}
    for _, name in ipairs({ 'min', 'max', 'step' }) do
      limit[name] = number(field(p, name))
      if field(p, name) ~= nil and not limit[name] then -- a limit that cannot be read is not "no limit"
        return 'bad_point', 'the ' .. name .. ' of ' .. target .. ' is not a number'
      end
    end
    local low, high, step = limit.min, limit.max, limit.step
    if low and v < low - 0.0000005 then return 'limit', c.value .. ' is below the minimum ' .. stored(low) .. ' of ' .. target end
    if high and v > high + 0.0000005 then return 'limit', c.value .. ' is above the maximum ' .. stored(high) .. ' of ' .. target end
    if step and step > 0 then
      local n = (v - (low or 0)) / step
      if math.abs(n - math.floor(n + 0.5)) * step > 0.000001 then
        return 'step', c.value .. ' is not on the step ' .. stored(step) .. ' of ' .. target
      end
    end
    local reason, detail = enum_refusal(p, target, v, c.value)
    if reason then return reason, detail end
  end
  text = redis.call('HGET', P .. 'model:' .. c.model, 'policy:' .. c.control)
  if not text then return nil end
  c.policy = decode(text)
  if not c.policy then return 'bad_policy', 'the policy of ' .. c.model .. ':' .. c.control .. ' is not JSON' end
  local safe = number(field(c.policy, 'safe'))
  if field(c.policy, 'safe') ~= nil and not safe then
    return 'bad_policy', 'the safe value of ' .. c.model .. ':' .. c.control .. ' is not a number'
  end
  if safe and stored(safe) == c.value then return nil end -- nothing forbids the way back
  local forbidden = interlock_refusal(c.policy)
  if forbidden then return 'interlock', forbidden end
  return nil
end

-- Ends the oldest commands of a queue whose time is over: a queue that nobody
-- takes from must not grow, and no command may stay queued for ever.
local function command_sweep(now, queue)
  for _, e in ipairs(redis.call('XRANGE', queue, '-', '+', 'COUNT', 3)) do
    local c
    for i = 1, #e[2], 2 do
      if e[2][i] == 'id' then c = command_load(e[2][i + 1]) end
    end
    if not c or FINAL[c.state] then
      redis.call('XDEL', queue, e[1])
    elseif c.state == 'queued' and command_late(now, c) then
      command_move(now, c, 'expired', 'timeout', 'the channel did not take it in time')
    end
  end
end

-- The key of an idempotency key. A colon in the origin is written %3A, so that
-- keys of two origins never meet.
local function command_key(origin, key)
  return P .. 'command:key:' .. string.gsub(string.gsub(origin, '%%', '%%25'), ':', '%%3A') .. ':' .. key
end

-- Ends the command that waits for the same point: the newer one takes its place.
-- What was claimed is not touched.
local function command_supersede(now, c)
  local latest = P .. 'cmd:' .. c.channel .. ':latest'
  local before = redis.call('HGET', latest, c.point)
  redis.call('HSET', latest, c.point, c.id)
  if c.policy and field(c.policy, 'queue') == true then return end -- each of them is executed
  local old = before and before ~= c.id and command_load(before)
  if old and old.state == 'queued' and old.channel == c.channel and old.point == c.point then
    command_move(now, old, 'superseded', 'superseded', 'by ' .. c.id)
  end
end

-- Records a command and queues it, or records why not. c: id (empty: one is
-- made), key, model, control, value, origin, user, timeout in ms. The same id
-- or key again changes nothing and answers the first record.
local function command_submit(now, c, need_owner)
  if c.id == '' then
    c.id = 'c' .. now .. '-' .. string.format('%d', redis.call('INCR', P .. 'commands:counter'))
  end
  local before = command_load(c.id)
  if before then return command_reply('DUPLICATE', before) end
  local idempotency = command_key(c.origin, c.key)
  if c.key ~= '' then
    local first = redis.call('GET', idempotency)
    before = first and command_load(first)
    if before then return command_reply('DUPLICATE', before) end
  end
  c.created, c.updated, c.state, c.reason, c.detail, c.channel, c.point = now, now, 'queued', '', '', '', ''
  c.deadline = string.format('%.0f', tonumber(now) + c.timeout)
  local reason, detail = command_refusal(c)
  if not reason then reason, detail = command_unowned(c.channel, need_owner) end
  if reason == 'not_finite' then c.value = '0.000000' end
  local key, queue = P .. 'command:' .. c.id, P .. 'cmd:' .. c.channel .. ':queue'
  if not reason then -- first what may fail: a key of a foreign type must not leave half a command
    command_sweep(now, queue)
    c.entry = redis.call('XADD', queue, '*', 'id', c.id, 'point', c.point, 'value', c.value)
  end
  command_store(c, c.timeout)
  if c.key ~= '' then redis.call('SET', idempotency, c.id, 'EX', math.floor(c.timeout / 1000) + COMMAND_KEPT) end
  local ok, err = pcall(command_move, now, c, reason and 'rejected' or 'queued', reason or '', detail or '')
  if not ok then -- the caller is told that it failed: then nobody must execute it
    redis.call('DEL', key)
    if c.entry then redis.call('XDEL', queue, c.entry) end
    error(err)
  end
  if reason then return command_reply('REJECTED', c) end
  pcall(command_supersede, now, c) -- an older one that stays is executed first: never the reason to fail
  redis.pcall('HSET', P .. 'cmd:' .. c.channel .. ':control', c.point, c.value) -- for others to read: never the reason to fail
  redis.call('PUBLISH', P .. 'cmd:' .. c.channel .. ':control', c.point .. ':' .. c.value)
  return command_reply('OK', c)
end
