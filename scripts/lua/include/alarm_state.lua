-- @include base
-- @include alarm_rule
-- @include notify
-- Where a rule stands, and the record of its alarm. A rule and point have at most
-- one open record. A rule that is normal, with nothing pending, has no state: a
-- batch looks at nothing but its limit.
--
-- The state is one text, so that one HMGET tells those of all rules of a batch:
--   met | due | quality | id | status | since | flags | until | edges | raises | memory
-- met: 1 while the condition holds, before any delay. due: when it must be looked
-- at again (also in timers). quality: why there is no value to judge by. id and
-- status: of the open record ("normal" without one). since: when met changed.
-- flags: s shelved, o out of service, d suppressed by design, c chattering. until:
-- the end of shelving. edges: when the condition came true, for a count. raises:
-- when the alarm was raised, for chattering. memory: what change and rate remember.
--
-- @keys rw alarm:<id>      the record
-- @keys rw alarm:state     where each rule stands that is not normal
-- @keys rw alarm:shelved   what is shelved or out of service: who, why, until when
-- @keys w  alarm:active    the ids of those not yet closed
-- @keys rw alarm:closed    the ids of closed ones by time
-- @keys w  timers          when rules must be looked at without a sample
-- @keys wp alarm:journal   every transition; on the channel, the id of the first alarm of the call
local ALARM_KEPT = 2592000 -- seconds that a closed record stays: 30 days
local ALARM_CLOSED = 10000 -- closed records that stay
local ALARM_JOURNAL = 100000 -- entries
local CHATTER_COUNT, CHATTER_TIME = 5, 60000 -- so many raises within so many ms

local STATE = '^([01])|(%d*)|(%a*)|(%d*)|(%a+)|(%d*)|([sodc]*)|(%d*)|([%d,]*)|([%d,]*)|([^|]*)$'

local function ms(n) return string.format('%.0f', n) end

local function times_of(text)
  local list = {}
  for t in string.gmatch(text, '%d+') do list[#list + 1] = t end
  return list
end

-- Forgets the times that are not within the last so many ms. Those ahead are of a
-- clock that was set back since.
local function forget_times(list, t, within)
  for i = #list, 1, -1 do
    local at = tonumber(list[i])
    if not at or at > t or t - at >= within then table.remove(list, i) end
  end
end

-- The state of a rule, of its text in alarm:state, false for none. One that
-- nobody can read is as if there were none.
local function alarm_at(model, point, rule, text)
  local a = { model = model, point = point, rule = rule, name = model .. ':' .. point .. ':' .. rule, text = text, moves = {} }
  if not text then
    a.met, a.due, a.quality, a.id, a.status, a.since, a.till, a.memory = false, '', '', '', 'normal', '', '', ''
    a.shelved, a.out, a.design, a.chatter, a.edges, a.raises, a.timed = false, false, false, false, {}, {}, ''
    return a
  end
  local met, due, quality, id, status, since, flags, until_, edges, raises, memory = string.match(text, STATE)
  if not met then
    met, due, quality, id, status, since, flags, until_, edges, raises, memory = '0', '', '', '', 'normal', '', '', '', '', '', ''
  end
  local function has(flag) return string.find(flags, flag, 1, true) ~= nil end
  a.met, a.due, a.quality, a.id, a.status, a.since = met == '1', due, quality, id, status, since
  a.shelved, a.out, a.design, a.chatter, a.till = has('s') and until_ ~= '', has('o'), has('d'), has('c'), until_
  a.edges, a.raises, a.memory, a.timed = times_of(edges), times_of(raises), memory, due
  if id == '' then a.status = 'normal' end
  return a
end

local function alarm_state(name)
  local text = redis.call('HGET', P .. 'alarm:state', name)
  return text
end

local function alarm_sooner(a, due)
  if a.due == '' or due < tonumber(a.due) then a.due = ms(due) end
end

local function alarm_text_of(a)
  return table.concat({ a.met and '1' or '0', a.due, a.quality, a.id, a.status, a.since,
    (a.shelved and 's' or '') .. (a.out and 'o' or '') .. (a.design and 'd' or '') .. (a.chatter and 'c' or ''),
    a.till, table.concat(a.edges, ','), table.concat(a.raises, ','), a.memory }, '|')
end

-- Stores the state and its timer, or forgets a rule that is normal again.
local function alarm_save(a)
  local kept = a.met or a.id ~= '' or a.shelved or a.out or #a.edges > 0 or #a.raises > 0 or a.memory ~= ''
  local member = 'alarm:' .. a.name
  if not kept then
    a.due = ''
    if a.text then redis.call('HDEL', P .. 'alarm:state', a.name) end
  else
    -- raises of a rule without a record are forgotten in time
    if a.id == '' and #a.raises > 0 then alarm_sooner(a, tonumber(a.raises[#a.raises]) + CHATTER_TIME) end
    local text = alarm_text_of(a)
    if text ~= a.text then redis.call('HSET', P .. 'alarm:state', a.name, text) end
  end
  if a.due ~= a.timed then
    if a.due == '' then
      redis.call('ZREM', P .. 'timers', member)
    else
      redis.call('ZADD', P .. 'timers', a.due, member)
    end
  end
end

-- Why nobody is told of the alarm, or ''.
local function alarm_suppression(a)
  if a.out then return 'out_of_service' end
  if a.shelved then return 'shelved' end
  if a.design then return 'suppressed' end
  return ''
end

local function alarm_in(a) return a.status == 'active' or a.status == 'acknowledged' end

-- What the journal says of the open record, in a.record. Without a record that can
-- be read the rule has none: false.
local function alarm_load(a)
  if a.record then return true end
  if a.id == '' then return false end
  local h = redis.call('HMGET', P .. 'alarm:' .. a.id, 'severity', 'value', 'threshold', 'message', 'count', 'acknowledged_at', 'model_id')
  if not h[7] then
    redis.call('SREM', P .. 'alarm:active', a.id)
    a.id, a.status, a.chatter = '', 'normal', false
    return false
  end
  a.record = { severity = h[1] or 'medium', value = h[2] or '0.000000', threshold = h[3] or '0.000000',
    message = h[4] or '', count = h[5] or '1', acknowledged = h[6] }
  return true
end

-- What the journal says where there is no record.
local function alarm_blank(a)
  local r = a.r
  return { severity = r and r.severity or 'medium', value = '', threshold = r and stored(r.threshold) or '', message = r and r.message or '' }
end

local alarm_hinted = false

-- One transition. a.value is the value that caused it, nil for the record's.
local function alarm_journal(now, transition, a, by, comment)
  local c = a.record or alarm_blank(a)
  local entry = { 'transition', transition, 'time', now, 'alarm', a.id, 'model_id', a.model, 'point_name', a.point,
    'rule_id', a.rule, 'severity', c.severity, 'status', a.id ~= '' and a.status or '', 'suppression', alarm_suppression(a),
    'value', a.value or c.value, 'threshold', c.threshold, 'message', c.message, 'by', by or '', 'comment', comment or '' }
  if a.device then
    entry[#entry + 1] = 'device_time'
    entry[#entry + 1] = a.device
  end
  redis.call('XADD', P .. 'alarm:journal', 'MAXLEN', '~', ALARM_JOURNAL, '*', unpack(entry))
  if not alarm_hinted then -- once a call: whoever is told reads on to the end
    alarm_hinted = true
    redis.call('PUBLISH', P .. 'alarm:journal', a.id)
  end
  a.moves[#a.moves + 1] = transition
end

-- The same with a new status, which it has only if the journal took it.
local function alarm_to(now, transition, a, status, by, comment)
  local before = a.status
  a.status = status
  local ok, err = pcall(alarm_journal, now, transition, a, by, comment)
  if not ok then
    a.status = before
    error(err, 0)
  end
end

-- Hands a transition to whoever sends notifications. first says that the record
-- is new, and counts this one already.
local function alarm_notify(now, transition, a, by, first)
  local c = a.record
  local n = first and 1 or redis.call('HINCRBY', P .. 'alarm:' .. a.id, 'notified', 1)
  notify({ type = 'alarm', id = a.id .. '-' .. string.format('%d', n), transition = transition, alarm_id = a.id,
    model_id = a.model, point_name = a.point, rule_id = a.rule, severity = c.severity, status = a.status,
    value = a.value or c.value, threshold = c.threshold, operator = a.r and a.r.op or '', message = c.message,
    timestamp = now, by = by or '' })
end

-- Shows on the record why nobody is told.
local function alarm_mark(a)
  if a.id == '' then return end
  local key, why = P .. 'alarm:' .. a.id, alarm_suppression(a)
  redis.call('HDEL', key, 'suppression', 'shelved_until', 'reason', 'suppressed_by')
  if why == '' then return end
  redis.call('HSET', key, 'suppression', why)
  local d = why ~= 'suppressed' and decode(redis.call('HGET', P .. 'alarm:shelved', a.name))
  if not d then return end
  local by, reason = field(d, 'by'), field(d, 'reason')
  redis.call('HSET', key, 'reason', type(reason) == 'string' and reason or '', 'suppressed_by', type(by) == 'string' and by or '')
  if why == 'shelved' then redis.call('HSET', key, 'shelved_until', a.till) end
end

-- Takes an alarm out of everything that lists open ones. Of the closed ones the
-- oldest go when there are too many.
local function alarm_end(now, a)
  local id, closed = a.id, P .. 'alarm:closed'
  redis.pcall('SREM', P .. 'alarm:active', id)
  redis.call('HSET', P .. 'alarm:' .. id, 'closed_at', now)
  redis.call('EXPIRE', P .. 'alarm:' .. id, ALARM_KEPT)
  local added = redis.pcall('ZADD', closed, now, id) -- a list of another program's is no reason to stay open
  local over = type(added) == 'number' and redis.call('ZCARD', closed) - ALARM_CLOSED or 0
  if over > 0 then
    for _, old in ipairs(redis.call('ZRANGE', closed, 0, math.min(over, 100) - 1)) do
      redis.call('DEL', P .. 'alarm:' .. old)
      redis.call('ZREM', closed, old)
    end
  end
  a.id, a.status, a.record, a.chatter = '', 'normal', nil, false
end
