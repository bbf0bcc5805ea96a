-- rule_engine: one rule, now
-- @version 1.0.0
-- @include rule
--
--   redis-cli --eval rule_engine.lua , <rule id> [now]
-- Acts whenever the conditions are true, also when they were true before.
-- Answers OK and ran, or OK and idle, then a line for what was done, or INVALID.
-- data_sync runs the rules of changed points by itself; this form is for people.
local inactive = guard('')
if inactive then return inactive end
if not ARGV[1] then return { 'INVALID', 'want: <rule id>' } end
local report = { 'OK', 'idle' }
if rule_run(now_ms(ARGV[2]), ARGV[1], true, report, report) then report[2] = 'ran' end
return report
