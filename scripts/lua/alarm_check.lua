-- alarm_check: the alarm rules of one point against one value
-- @version 1.0.0
-- @include alarm
--
--   redis-cli --eval alarm_check.lua , <model> <point> <value> [now]
-- Reads alarm:rules:<model>:<point>. Answers OK and a line for every alarm that
-- changed and every rule that is malformed, or INVALID.
-- data_sync does the same in its batches; this form is for other programs.
local inactive = guard('')
if inactive then return inactive end
local v = number(ARGV[3])
if not ARGV[1] or not ARGV[2] or not v then return { 'INVALID', 'want: <model> <point> <value>' } end
local report = { 'OK' }
alarm_check(now_ms(ARGV[4]), ARGV[1], ARGV[2], stored(v), report)
return report
