-- @include base
-- @include condition
-- @include notify
-- The life of an alarm. A rule and point have at most one open record; its id
-- and status stand in alarm:open under "<model>:<point>:<rule>", so that one
-- HMGET tells the state of every rule of a batch.
--
-- @keys r  alarm:rules:<model>:<point>  the rules of a point; their severity and message when one raises
-- @keys rw alarm:<id>                   the record
-- @keys rw alarm:open                   the open record of each rule and point, and its status
-- @keys w  alarm:active                 the ids of those not yet closed
-- @keys rw alarm:counter                makes the ids
-- @keys wp alarm:journal                every transition; on the channel, the alarm's id
-- @keys p  alarm:new                    the id of an alarm that was raised
local ALARM_KEPT = 2592000 -- seconds that a closed record stays: 30 days
local ALARM_JOURNAL = 100000 -- entries

-- The threshold that a raised alarm has to come back past, with six decimals as
-- values have: 0.3 - 0.1 is not 0.2 in binary.
local function clearing(operator, threshold, hysteresis)
  if operator == '>' or operator == '>=' then return tonumber(stored(threshold - hysteresis)) end
  if operator == '<' or operator == '<=' then return tonumber(stored(threshold + hysteresis)) end
  return threshold
end

local function alarm_journal(now, transition, id, a)
  redis.call('XADD', P .. 'alarm:journal', 'MAXLEN', '~', ALARM_JOURNAL, '*',
    'transition', transition, 'time', now, 'alarm', id, 'model_id', a.model, 'point_name', a.point,
    'rule_id', a.rule, 'severity', a.severity, 'status', a.status, 'value', a.value,
    'message', a.message, 'by', a.by or '', 'comment', a.comment or '')
  redis.call('PUBLISH', P .. 'alarm:journal', id)
end

-- A new record. a: model, point, rule, value (stored form), threshold, severity, message.
local function alarm_raise(now, a)
  local id = string.format('%d', redis.call('INCR', P .. 'alarm:counter'))
  a.status = 'active'
  -- first what may fail, so that it is tried again with the next value and no
  -- alarm is open of which the journal does not know
  redis.call('SADD', P .. 'alarm:active', id)
  local ok, err = pcall(alarm_journal, now, 'raised', id, a)
  if not ok then
    redis.call('SREM', P .. 'alarm:active', id)
    error(err)
  end
  redis.call('DEL', P .. 'alarm:' .. id) -- a counter that was lost with the data starts again
  redis.call('HSET', P .. 'alarm:' .. id, 'id', id, 'model_id', a.model, 'point_name', a.point,
    'value', a.value, 'rule_id', a.rule, 'timestamp', now, 'status', a.status, 'severity', a.severity,
    'message', a.message, 'threshold', a.threshold, 'count', '1')
  redis.call('HSET', P .. 'alarm:open', a.model .. ':' .. a.point .. ':' .. a.rule, id .. '|active')
  notify({ type = 'alarm', alarm_id = id, model_id = a.model, point_name = a.point, severity = a.severity,
    value = a.value, message = a.message, timestamp = now })
  redis.call('PUBLISH', P .. 'alarm:new', id)
  return id
end

-- What the journal says of an existing record, with its new status.
local function alarm_load(id, status)
  local h = redis.call('HMGET', P .. 'alarm:' .. id, 'model_id', 'point_name', 'rule_id', 'severity', 'value', 'message', 'status', 'count')
  if not h[1] then return nil end
  return { model = h[1], point = h[2] or '', rule = h[3] or '', severity = h[4] or 'medium', value = h[5] or '0.000000',
    message = h[6] or '', before = h[7], status = status or h[7], count = h[8] or '1' }
end

local function alarm_open_key(a) return a.model .. ':' .. a.point .. ':' .. a.rule end

-- Takes an alarm out of everything that lists open ones.
local function alarm_end(id, a)
  redis.pcall('SREM', P .. 'alarm:active', id)
  local open = redis.call('HGET', P .. 'alarm:open', alarm_open_key(a))
  if open and string.match(open, '^(%d+)|') == id then
    redis.call('HDEL', P .. 'alarm:open', alarm_open_key(a))
  end
  redis.call('EXPIRE', P .. 'alarm:' .. id, ALARM_KEPT)
end

-- The rule's severity and message, read only when an alarm is raised.
local function alarm_texts(model, point, rule, value, operator, threshold)
  local d = decode(redis.call('HGET', P .. 'alarm:rules:' .. model .. ':' .. point, rule)) or {}
  local message = field(d, 'message')
  if type(message) ~= 'string' or message == '' then
    message = model .. '.' .. point .. ' = ' .. value .. ' ' .. operator .. ' ' .. stored(threshold)
  end
  local severity = field(d, 'severity')
  if type(severity) ~= 'string' or severity == '' then severity = 'medium' end
  return severity, message
end

-- One rule against one value. open is the rule's entry of alarm:open, or false.
-- Returns the transition that happened, or nil.
local function alarm_step(now, model, point, rule, value, operator, threshold, hysteresis, open)
  local v = tonumber(value)
  if not open then
    if not compare(v, operator, threshold) then return nil end
    local severity, message = alarm_texts(model, point, rule, value, operator, threshold)
    alarm_raise(now, { model = model, point = point, rule = rule, value = value,
      threshold = stored(threshold), severity = severity, message = message })
    return 'raised'
  end
  local id, status = string.match(open, '^(%d+)|(%a+)$')
  if not id then -- an entry that nobody can read: as if there were none
    redis.call('HDEL', P .. 'alarm:open', model .. ':' .. point .. ':' .. rule)
    return alarm_step(now, model, point, rule, value, operator, threshold, hysteresis, false)
  end
  local a, transition
  if status == 'cleared' then
    if not compare(v, operator, threshold) then return nil end
    a, transition = alarm_load(id, 'active'), 'reraised'
  else
    if compare(v, operator, clearing(operator, threshold, hysteresis)) then return nil end
    transition = 'cleared'
    if status == 'acknowledged' then a = alarm_load(id, 'closed') else a = alarm_load(id, 'cleared') end
  end
  if not a then -- the record is gone: forget it and judge anew
    redis.call('HDEL', P .. 'alarm:open', model .. ':' .. point .. ':' .. rule)
    redis.call('SREM', P .. 'alarm:active', id)
    return alarm_step(now, model, point, rule, value, operator, threshold, hysteresis, false)
  end
  a.value = value
  alarm_journal(now, transition, id, a)
  if transition == 'reraised' then
    redis.call('HSET', P .. 'alarm:' .. id, 'status', 'active', 'value', value,
      'count', string.format('%d', (number(a.count) or 1) + 1))
    redis.call('HDEL', P .. 'alarm:' .. id, 'cleared_at')
    redis.call('HSET', P .. 'alarm:open', alarm_open_key(a), id .. '|active')
    notify({ type = 'alarm', alarm_id = id, model_id = model, point_name = point, severity = a.severity,
      value = value, message = a.message, timestamp = now })
  else
    redis.call('HSET', P .. 'alarm:' .. id, 'status', a.status, 'cleared_at', now)
    if a.status == 'closed' then
      alarm_end(id, a)
    else
      redis.call('HSET', P .. 'alarm:open', alarm_open_key(a), id .. '|cleared')
    end
  end
  return transition
end

-- Every rule that is stored for a point, against one value: the way of the
-- hand-callable forms. A rule that cannot be read is skipped and named.
local function alarm_check(now, model, point, value, report)
  local rules, texts, ids = redis.call('HGETALL', P .. 'alarm:rules:' .. model .. ':' .. point), {}, {}
  for i = 1, #rules, 2 do
    ids[#ids + 1] = rules[i]
    texts[rules[i]] = rules[i + 1]
  end
  table.sort(ids) -- a hash has no order, and the ids of the alarms follow from it
  for _, id in ipairs(ids) do
    local r = decode(texts[id])
    local threshold = r and number(field(r, 'threshold'))
    local hysteresis = r and number(field(r, 'hysteresis') or 0)
    local operator = r and field(r, 'operator')
    if not threshold or not hysteresis or hysteresis < 0 or compare(0, operator, 0) == nil then
      report[#report + 1] = 'alarm rule ' .. id .. ' of ' .. model .. ':' .. point .. ' is malformed and was skipped'
    elseif field(r, 'disabled') ~= true then
      local open = redis.call('HGET', P .. 'alarm:open', model .. ':' .. point .. ':' .. id)
      local t = alarm_step(now, model, point, id, value, operator, threshold, hysteresis, open)
      if t then report[#report + 1] = 'alarm ' .. id .. ' of ' .. model .. ':' .. point .. ' ' .. t end
    end
  end
end
