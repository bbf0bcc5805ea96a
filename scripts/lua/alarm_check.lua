-- alarm_check: the alarm rules of one point against one value
-- @version 1.3.0
-- @include alarm
--
-- By hand, and from other programs; data_sync does the same in its batches:
--   redis-cli --eval alarm_check.lua , pcs1 temperature 70
--   redis-cli --eval alarm_check.lua , pcs1 temperature '!stale'
--
-- @form <model> <point> <value> [<now>]
--   Checks the value, or "!" and the quality of one that is not usable, against
--   every rule that is stored for the point, raises and clears alarms.
-- @reply OK and a line for every alarm that changed and every rule that is malformed
-- @code OK       done
-- @code INVALID  the arguments are not as above, or the value is no number; nothing was changed
local inactive = guard('')
if inactive then return inactive end
local x = alarm_given(ARGV[3])
if not ARGV[1] or not ARGV[2] or not x then return { 'INVALID', 'want: <model> <point> <value>' } end
local report = { 'OK' }
alarm_check(now_ms(ARGV[4]), ARGV[1], ARGV[2], x, report)
return report
