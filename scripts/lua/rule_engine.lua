-- rule_engine: one rule, now
-- @version 1.3.0
-- @include rule
--
-- For people; data_sync runs the rules of changed points by itself:
--   redis-cli --eval rule_engine.lua , peak_shaving
--
-- @form <rule id> [<now>]
--   Acts whenever the conditions are true, also when they were true before.
-- @reply ran or idle, then a line for what was done and what could not be
-- @code OK       looked at; the next text says whether it acted
-- @code INVALID  no rule was named
local inactive = guard('')
if inactive then return inactive end
if not ARGV[1] then return { 'INVALID', 'want: <rule id>' } end
local report = { 'OK', 'idle' }
if rule_run(now_ms(ARGV[2]), ARGV[1], true, report, report) then report[2] = 'ran' end
return report
