-- @include base
-- @include alarm
-- @include command
-- @include condition
-- @include notify
-- The rule engine. A rule acts when its conditions become true, not for every
-- sample while they stay true: rules:state keeps what they were.
--
-- @keys r  rule:<id>        conditions, actions, whether it is disabled
-- @keys rw rules:state      what the conditions were
-- @keys w  rule:stats:<id>  how often it acted, and when
-- @keys r  <key>            a hash that a condition names itself, by key and field
-- The value that a condition looks at, as a number; nil when there is none or
-- its quality is not good enough to decide on.
local function rule_value(c)
  for _, part in ipairs({ 'key', 'field', 'model_id', 'point_name' }) do
    if type(field(c, part) or '') == 'table' then return nil end
  end
  local key, name = field(c, 'key'), field(c, 'field')
  if key and name then return number(redis.call('HGET', P .. key, name)) end
  local model, point = field(c, 'model_id'), field(c, 'point_name')
  if not model or not point then return nil end
  return (point_value(model, point))
end

-- true, false, or nil where a value is missing and nothing can be decided. One
-- condition that is false decides alone.
local function rule_conditions(conditions)
  local all = true
  for _, c in ipairs(conditions) do
    if type(c) ~= 'table' then return nil end
    local v, threshold = rule_value(c), number(field(c, 'threshold'))
    local met = v and threshold and compare(v, field(c, 'operator'), threshold)
    if met == false then return false end
    if not met then all = nil end
  end
  return all
end

-- A text of an action, or what stands for one that is missing or no text.
local function rule_text(a, name, default)
  local s = field(a, name)
  if type(s) ~= 'string' or s == '' then return default end
  return s
end

local function rule_act(now, id, n, a, report)
  local kind = field(a, 'type')
  if kind == 'control' then
    local r = command_submit(now, { id = '', key = '', model = rule_text(a, 'model_id', ''),
      control = rule_text(a, 'control_name', ''), value = field(a, 'value') or '', origin = 'rule:' .. id,
      user = '', timeout = 10000 }, false)
    report[#report + 1] = 'rule ' .. id .. ' gave command ' .. r[3]
  elseif kind == 'alarm' then
    local name = 'action' .. string.format('%d', n)
    -- one open record per rule and action: more of the same would tell nothing new
    local alarm = alarm_at('rule', id, name, alarm_state('rule:' .. id .. ':' .. name))
    if alarm.id == '' or not alarm_load(alarm) then
      alarm.value = '1.000000'
      alarm.r = { op = '', threshold = 0, high = 0, severity = rule_text(a, 'severity', 'medium'), message = rule_text(a, 'message', 'rule ' .. id) }
      local ok, err = pcall(alarm_raise, now, alarm)
      alarm_save(alarm) -- also where it was raised and only the telling failed
      if not ok then error(err, 0) end
    end
  elseif kind == 'notification' then
    notify({ type = 'notification', rule_id = id, severity = rule_text(a, 'severity', 'medium'),
      message = rule_text(a, 'message', 'rule ' .. id), timestamp = now })
  else
    report[#report + 1] = 'rule ' .. id .. ': action ' .. string.format('%d', n) .. ' has no known type and was skipped'
  end
end

-- Evaluates one rule. by_hand acts whenever the conditions are true; otherwise
-- only when they were not before. report takes what was done, problems what could not be.
local function rule_run(now, id, by_hand, report, problems)
  local h = redis.call('HMGET', P .. 'rule:' .. id, 'conditions', 'actions', 'disabled')
  local conditions, actions = decode(h[1]), decode(h[2])
  if not conditions or not actions or #conditions == 0 then
    if h[1] or h[2] or by_hand then report[#report + 1] = 'rule ' .. id .. ' is missing or malformed and was skipped' end
    return false
  end
  if h[3] == '1' and not by_hand then return false end
  local met = rule_conditions(conditions)
  if met == nil then return false end
  local before = redis.call('HGET', P .. 'rules:state', id)
  local state = met and '1' or '0'
  if before ~= state then redis.call('HSET', P .. 'rules:state', id, state) end
  if not met or (before == '1' and not by_hand) then return false end
  redis.pcall('HINCRBY', P .. 'rule:stats:' .. id, 'execution_count', 1) -- never the reason not to act
  redis.pcall('HSET', P .. 'rule:stats:' .. id, 'last_execution', now)
  for n, a in ipairs(actions) do -- one that cannot be done does not keep the next from being done
    local ok, err = false, 'is no object'
    if type(a) == 'table' then ok, err = pcall(rule_act, now, id, n, a, report) end
    if not ok then
      problems[#problems + 1] = 'rule ' .. id .. ': action ' .. string.format('%d', n) .. ': ' .. tostring(type(err) == 'table' and err.err or err)
    end
  end
  return true
end
