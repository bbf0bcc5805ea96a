-- alarm_desk: what a person does with an alarm
-- @version 1.0.0
-- @include alarm
--
--   ack|close <now> <generation> <alarm id> <by> <comment>
-- ack takes note of an alarm: an active one becomes acknowledged, one that
-- returned to normal is closed. close ends it whatever the value is.
-- Answers OK and the status; SAME and the status where nothing changed (an
-- acknowledged one again); NOTFOUND; GENERATION; INACTIVE.
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
