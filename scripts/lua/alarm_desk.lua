-- alarm_desk: what a person does with an alarm
-- @version 1.3.0
-- @include alarm
--
-- An alarm is the id of a record, or <model>:<point>:<rule>.
--
-- @form ack <now> <generation> <alarm> <by> <comment>
--   Takes note of an alarm: an active one becomes acknowledged, one that
--   returned to normal is closed, one that is latched stays so.
-- @form ack_many <now> <generation> <by> <comment> <alarm> …
--   The same for several. Answers OK and how many changed.
-- @form close <now> <generation> <alarm> <by> <comment>
--   Ends it whatever the value is.
-- @form reset <now> <generation> <alarm> <by> <comment>
--   Ends a latched one, whose condition is over.
-- @form shelve <now> <generation> <alarm> <by> <reason> <until>
--   Nobody is told of it until then (Unix milliseconds, at most 30 days ahead).
-- @form unshelve <now> <generation> <alarm> <by> <comment>
--   Ends that before its time.
-- @form out_of_service <now> <generation> <alarm> <by> <reason>
--   Nobody is told of it until it is in service again.
-- @form in_service <now> <generation> <alarm> <by> <comment>
--   Ends that.
-- @reply the code and the alarm's status ("normal" without an open record); NOTFOUND and the alarm
-- @code OK        done
-- @code SAME      nothing changed: it is closed, acknowledged, not suppressed so, or shelved just so
-- @code NOTFOUND  there is no such alarm, nor such a rule
-- @code STATE     not in this state: reset of what is not latched, shelving of what is out of service. Then the status
-- @code INVALID   a reason or a time is missing, or there is no such operation; nothing was changed. Then what is wrong
local op = ARGV[1]
local refusal = guard(ARGV[3] or '')
if refusal then return refusal end
local now = now_ms(ARGV[2])

-- The alarm that is meant, or nil. closed says that its record is.
local function target_of(target)
  local model, point, rule, id, status
  if string.match(target, '^%d+$') then
    local h = redis.call('HMGET', P .. 'alarm:' .. target, 'model_id', 'point_name', 'rule_id', 'status')
    model, point, rule, id, status = h[1], h[2] or '', h[3] or '', target, h[4] or 'closed'
  else
    model, point, rule = string.match(target, '^([^:|]+):([^:|]+):([^|]+)$')
  end
  if not model then return nil end
  local name = model .. ':' .. point .. ':' .. rule
  local text = alarm_state(name)
  local a = alarm_at(model, point, rule, text)
  local definition = redis.call('HGET', P .. 'alarm:rules:' .. model .. ':' .. point, rule)
  if not id and not text and not definition then return nil end
  a.r = alarm_rule(definition, model, point, rule)
  if id and a.id ~= id then
    a.closed = status == 'closed'
    if not a.closed then -- the state was lost: the record alone is left
      a.id, a.status, a.lost = id, status, true
    end
  elseif a.id == '' then
    a.closed = true
  end
  return a
end

local function save(a)
  if not a.lost then alarm_save(a) end
end

local function stamp(a, by, comment)
  redis.call('HSET', P .. 'alarm:' .. a.id, 'status', a.status, 'comment', comment, 'acknowledged_at', now, 'acknowledged_by', by)
end

-- What follows from the end of the record by a person.
local function over(a)
  alarm_end(now, a)
  a.met, a.since, a.edges, a.raises, a.memory = false, '', {}, {}, ''
  a.due = a.shelved and a.till or ''
end

local function acknowledge(a, by, comment)
  if a.closed or not alarm_load(a) or a.status == 'acknowledged' or (a.status == 'latched' and a.record.acknowledged) then return false end
  local status = a.status
  if status == 'active' then status = 'acknowledged' elseif status == 'cleared' then status = 'closed' end
  alarm_to(now, 'acknowledged', a, status, by, comment)
  stamp(a, by, comment)
  if alarm_suppression(a) == '' then alarm_notify(now, 'acknowledged', a, by) end
  if status == 'closed' then alarm_end(now, a) end
  return true
end

local function status_of(a, closed) return a.id ~= '' and a.status or closed end

if op == 'ack_many' then
  local changed = 0
  for i = 6, #ARGV do
    local a = target_of(ARGV[i])
    if a and acknowledge(a, ARGV[4], ARGV[5]) then
      changed = changed + 1
      save(a)
    end
  end
  return { 'OK', string.format('%d', changed) }
end

local by, comment = ARGV[5] or '', ARGV[6] or ''
local a = ARGV[4] and target_of(ARGV[4])
if not a then return { 'NOTFOUND', ARGV[4] or '' } end

if op == 'ack' then
  local done = acknowledge(a, by, comment)
  if not done then return { 'SAME', a.closed and 'closed' or a.status } end
  save(a)
  return { 'OK', status_of(a, 'closed') }
end

if op == 'close' or op == 'reset' then
  if a.closed or not alarm_load(a) then return { 'SAME', 'closed' } end
  if op == 'reset' and a.status ~= 'latched' then return { 'STATE', a.status } end
  local first = not a.record.acknowledged
  alarm_to(now, op == 'reset' and 'reset' or 'closed', a, 'closed', by, comment)
  if first then stamp(a, by, comment) else redis.call('HSET', P .. 'alarm:' .. a.id, 'status', 'closed', 'comment', comment) end
  if alarm_suppression(a) == '' then alarm_notify(now, op == 'reset' and 'reset' or 'closed', a, by) end
  over(a)
  save(a)
  return { 'OK', 'closed' }
end

local function suppress(kind, till)
  alarm_load(a)
  redis.call('HLEN', P .. 'alarm:shelved') -- fails where it is another program's, before anything is done
  alarm_journal(now, kind, a, by, comment)
  redis.call('HSET', P .. 'alarm:shelved', a.name, '{"kind":"' .. kind .. '","until":' .. till .. ',"at":' .. now ..
    ',"by":' .. cjson.encode(by) .. ',"reason":' .. cjson.encode(comment) .. '}')
  alarm_mark(a)
  save(a)
  return { 'OK', a.status }
end

if op == 'shelve' then
  local till = number(ARGV[7])
  if comment == '' then return { 'INVALID', 'shelving needs a reason' } end
  if not till or till <= tonumber(now) or till > tonumber(now) + 2592000000 then return { 'INVALID', 'shelving needs an end within 30 days' } end
  if a.out then return { 'STATE', 'out_of_service' } end
  if a.shelved and a.till == ms(till) then -- perhaps a call whose answer was lost
    local d = decode(redis.call('HGET', P .. 'alarm:shelved', a.name))
    if d and field(d, 'by') == by and field(d, 'reason') == comment then return { 'SAME', a.status } end
  end
  a.shelved, a.till = true, ms(till)
  alarm_sooner(a, till)
  return suppress('shelved', a.till)
end

if op == 'out_of_service' then
  if comment == '' then return { 'INVALID', 'out of service needs a reason' } end
  if a.out then return { 'SAME', a.status } end
  a.out, a.shelved, a.till = true, false, ''
  return suppress('out_of_service', '0')
end

if op == 'unshelve' or op == 'in_service' then
  if not (op == 'unshelve' and a.shelved or op == 'in_service' and a.out) then return { 'SAME', a.status } end
  if op == 'unshelve' then
    alarm_resume(now, a, 'shelved', 'unshelved', by, comment)
  else
    alarm_resume(now, a, 'out', 'in_service', by, comment)
  end
  save(a)
  return { 'OK', a.status }
end

return { 'INVALID', 'unknown operation "' .. tostring(op) .. '"' }
