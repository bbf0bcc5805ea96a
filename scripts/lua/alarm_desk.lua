-- alarm_desk: what a person does with an alarm
-- @version 1.2.0
-- @include alarm
--
-- @form ack <now> <generation> <alarm id> <by> <comment>
--   Takes note of an alarm: an active one becomes acknowledged, one that
--   returned to normal is closed.
-- @form close <now> <generation> <alarm id> <by> <comment>
--   Ends it whatever the value is.
-- @reply the code and the alarm's status; NOTFOUND and the id
-- @code OK        done
-- @code SAME      nothing changed: it is closed, or acknowledged before
-- @code NOTFOUND  there is no such alarm
local op, id = ARGV[1], ARGV[4]
local refusal = guard(ARGV[3])
if refusal then return refusal end
local now = now_ms(ARGV[2])
local a = alarm_load(id)
if not a then return { 'NOTFOUND', id } end
local before = a.before
if before == 'closed' or (op == 'ack' and before == 'acknowledged') then return { 'SAME', before } end
a.by, a.comment = ARGV[5], ARGV[6]
local key, transition = P .. 'alarm:' .. id, 'acknowledged'
if op == 'close' then
  a.status, transition = 'closed', 'closed'
elseif before == 'cleared' then
  a.status = 'closed'
else
  a.status = 'acknowledged'
end
alarm_journal(now, transition, id, a)
redis.call('HSET', key, 'status', a.status, 'comment', a.comment)
if op == 'ack' or redis.call('HEXISTS', key, 'acknowledged_at') == 0 then
  redis.call('HSET', key, 'acknowledged_at', now, 'acknowledged_by', a.by)
end
if a.status == 'closed' then
  alarm_end(id, a)
else
  redis.call('HSET', P .. 'alarm:open', alarm_open_key(a), id .. '|' .. a.status)
end
return { 'OK', a.status }
