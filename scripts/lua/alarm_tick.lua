-- alarm_tick: what alarm rules have to do without a sample
-- @version 1.0.0
-- @include alarm_batch
--
-- The engine calls it ten times a second: delays that are over, the end of
-- shelving, rules that have changed, channels that are offline.
--
-- @form <now> <generation> [<channel> …]
--   Judges the rules whose time has come, at most 200, and the rules of operator
--   offline of the channels.
-- @reply OK, how many were due, 1 where there are more, else 0, and a line for everything that went wrong
-- @code OK  done
local refusal = guard(ARGV[2] or '')
if refusal then return refusal end
local now, report = now_ms(ARGV[1]), { 'OK', '', '' }
local done, more = alarm_due(now, 200, report)
report[2], report[3] = string.format('%d', done), more and '1' or '0'
local function tick_channel(channel)
  local ids = redis.call('HKEYS', P .. 'alarm:rules:channel:' .. channel)
  if #ids == 0 then return end
  table.sort(ids)
  local x = alarm_input('channel', channel)
  for _, id in ipairs(ids) do
    local name = 'channel:' .. channel .. ':' .. id
    local state = alarm_state(name)
    local _, look = alarm_item(tonumber(now), x.value or '!' .. x.quality, 'offline', '0', 0, state)
    if look then
      local ok, err = pcall(alarm_judge, now, 'channel', channel, id, x, state)
      if not ok then report[#report + 1] = alarm_error(name, err) end
    end
  end
end

for i = 3, #ARGV do -- a channel that cannot be looked at costs no other one
  local ok, err = pcall(tick_channel, ARGV[i])
  if not ok then report[#report + 1] = alarm_error('of channel ' .. ARGV[i], err) end
end
return report
