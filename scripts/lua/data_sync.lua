-- data_sync: values from channels to models, commands from models to channels
-- @version 1.3.0
-- @include alarm
-- @include alarm_batch
-- @include rule
-- @include command
--
-- By hand, and from other programs, one point at a time:
--   redis-cli --eval data_sync.lua , c2m 1001 10001 25.5
--   redis-cli --eval data_sync.lua , m2c pcs1 power_setpoint 50
-- (with a site: --eval data_sync.lua '{<site>}:anchor' , c2m …)
--
-- @form c2m <channel> <point> <value> [<now>]
--   Writes comsrv:<channel>:m, follows mapping:c2m (or writes the channel's
--   hash alone), checks the alarm rules and runs the rules of the point.
--   Answers OK and a line for everything that followed, or INVALID.
-- @form m2c <model> <control> <value> [<now>]
--   Follows mapping:m2c and gives a command. Answers OK (queued) or REJECTED and
--   the command's record as name, value, …, or INVALID.
-- @form batch <now> <generation> <mapping version> <channel> <epoch> <batch number> <queued points> <sections…>
--   From the engine, a whole batch of one channel, resolved beforehand. Batch
--   numbers grow within an epoch. Answers OK and a line for everything that went
--   wrong on the way, or a code that says why nothing was changed.
--   Sections, each with its count of items n:
--     S <key> <n> <field> <value> …   HSET        D <key> <n> <field> …   HDEL
--     T <key> <n> <field> …           HSET with the time of this call
--     N <key> <n> <field> …           the time of this call for all names, kept once under '*', but for the fields
--     I <n> <key> …                   DEL of cached answers, which are stale now
--     P <channel> <message>           PUBLISH
--     X <key> <maxlen> <channel> <packed points>   XADD, with the time and the cumulative point count
--     A <n> <model:point:rule> <value> <operator> <threshold> <hysteresis> …   alarm rules to check. The value
--       may be <value>@<device time>, !<quality> of what is not usable, or empty for what is stored. The threshold
--       is <low>:<high> of a range, <threshold>:<model>:<point> of a deviation, <threshold>:<ms> of a rate
--     R <n> <rule> …                  rules to run
-- @reply OK and lines of text; m2c: the code and the command's record
-- @code OK         done; the lines say what followed, or what went wrong without being a reason to lose the rest
-- @code DUPLICATE  (batch) this batch number or a later one was done before; nothing was changed
-- @code FENCED     (batch) another engine owns the channel; nothing was changed. Then the last epoch
-- @code MAPPING    (batch) the mapping changed: resolve again; nothing was changed. Then its version
-- @code INVALID    (by hand) the arguments are not as above; nothing was changed. Then what is wrong
-- @keys rw comsrv:<channel>:fence           the owner's epoch, the last batch number, the count of queued points
-- @keys w  comsrv:<channel>:<m|s|c|a|text>  the channel's values
-- @keys w  comsrv:<channel>:<ts|quality>    their device times, and their quality where it is not good
-- @keys r  mapping:c2m                      (c2m) where a point's value goes
-- @keys r  mapping:version                  (batch) what the batch was resolved with
-- @keys w  modsrv:<model>:<measurement|signal|control|adjustment|text>  the model's values
-- @keys w  modsrv:<model>:<ts|quality>      their times, and their quality where it is not good
-- @keys p  modsrv:<model>:update            name:value, the sign to read again
-- @keys w  cache:model:<model>:values       the cached answer, which is stale now
-- @keys r  rules:index                      (c2m) the rules that look at the point
-- @keys w  hissrv:queue                     (batch) the points for the history
-- @keys w  cloud:queue                      (batch) the points for the cloud

-- A write of a batch: a key of a foreign type costs that key alone.
local function attempt(report, ...)
  local r = redis.pcall(...)
  if type(r) == 'table' and r.err then
    report[#report + 1] = 'write of ' .. tostring((select(2, ...))) .. ': ' .. r.err
    return nil
  end
  return r
end

local function attempt_fields(report, command, key, list, first, last)
  -- at most 1000 arguments at a time: the embedded store has a stack of 5120 for
  -- all calls together, and they are on it once per call
  local i = first
  while i <= last do
    local j = math.min(i + 999, last)
    attempt(report, command, key, unpack(list, i, j))
    i = j + 1
  end
end

-- One time for all names of a model, under '*'; the fields, which are not in the
-- batch, keep theirs: an empty one where nobody knows it, for '*' is not theirs.
local function time_of_all(now, key, first, n)
  local fields, kept = { '*' }, { '*', now }
  for k = 1, n do fields[k + 1] = ARGV[first + k - 1] end
  local before = n > 0 and redis.pcall('HMGET', key, unpack(fields)) or {}
  for k = 2, #fields do
    kept[#kept + 1] = fields[k]
    kept[#kept + 1] = before[k] or before[1] or ''
  end
  redis.call('DEL', key)
  redis.call('HSET', key, unpack(kept))
end

local function run_rule(now, id, report)
  local notes = {}
  local ok, err = pcall(rule_run, now, id, false, notes, report)
  if not ok then report[#report + 1] = 'rule ' .. id .. ': ' .. tostring(type(err) == 'table' and err.err or err) end
end

local function batch()
  local refusal = guard(ARGV[3], ARGV[5])
  if refusal then return refusal end
  local channel, epoch, number_of_batch = ARGV[5], ARGV[6], ARGV[7]
  local fence = P .. 'comsrv:' .. channel .. ':fence'
  local f = redis.call('HMGET', fence, 'epoch', 'batch')
  if f[1] ~= epoch then return { 'FENCED', f[1] or '' } end
  -- also a lower number: a request that a broken connection delivers late
  if f[2] and (number(f[2]) or 0) >= tonumber(number_of_batch) then return { 'DUPLICATE' } end
  local version = redis.call('GET', P .. 'mapping:version')
  if (version or '') ~= ARGV[4] then return { 'MAPPING', version or '' } end

  local now = now_ms(ARGV[2])
  redis.call('HSET', fence, 'batch', number_of_batch)
  local report, total = { 'OK' }, nil
  alarm_due(now, 50, report) -- first what was due before these values came
  local i, last = 9, #ARGV
  while i <= last do
    local section = ARGV[i]
    if section == 'S' then
      local n = tonumber(ARGV[i + 2]) * 2
      attempt_fields(report, 'HSET', ARGV[i + 1], ARGV, i + 3, i + 2 + n)
      i = i + 3 + n
    elseif section == 'D' then
      local n = tonumber(ARGV[i + 2])
      attempt_fields(report, 'HDEL', ARGV[i + 1], ARGV, i + 3, i + 2 + n)
      i = i + 3 + n
    elseif section == 'T' then
      local n, t = tonumber(ARGV[i + 2]), {}
      for k = 1, n do
        t[2 * k - 1] = ARGV[i + 2 + k]
        t[2 * k] = now
      end
      attempt_fields(report, 'HSET', ARGV[i + 1], t, 1, 2 * n)
      i = i + 3 + n
    elseif section == 'N' then
      local n = tonumber(ARGV[i + 2])
      time_of_all(now, ARGV[i + 1], i + 3, n)
      i = i + 3 + n
    elseif section == 'I' then
      local n = tonumber(ARGV[i + 1])
      attempt(report, 'DEL', unpack(ARGV, i + 2, i + 1 + n))
      i = i + 2 + n
    elseif section == 'P' then
      redis.call('PUBLISH', ARGV[i + 1], ARGV[i + 2])
      i = i + 3
    elseif section == 'X' then
      -- once for all queues: each has the same points
      total = total or attempt(report, 'HINCRBY', fence, 'points', ARGV[8]) or 0
      attempt(report, 'XADD', ARGV[i + 1], 'MAXLEN', '~', ARGV[i + 2], '*', 'v', '1', 'channel', ARGV[i + 3],
        'time', now, 'count', string.format('%d', total), 'points', ARGV[i + 4])
      i = i + 5
    elseif section == 'A' then
      local n = tonumber(ARGV[i + 1])
      batch_alarms(now, i + 2, n, report)
      i = i + 2 + n * 5
    elseif section == 'R' then
      local n = tonumber(ARGV[i + 1])
      for k = 1, n do run_rule(now, ARGV[i + 1 + k], report) end
      i = i + 2 + n
    else
      report[#report + 1] = 'section "' .. section .. '" at argument ' .. string.format('%d', i) .. ' is unknown: the rest was left out'
      break
    end
  end
  return report
end

local function c2m()
  local channel, point, v = ARGV[2], ARGV[3], number(ARGV[4])
  if not channel or not point or channel == '' or point == '' then return { 'INVALID', 'want: c2m <channel> <point> <value>' } end
  if not v then return { 'INVALID', 'value "' .. tostring(ARGV[4]) .. '" is not a finite decimal number' } end
  local now, value, report = now_ms(ARGV[5]), stored(v), { 'OK' }
  alarm_due(now, 50, report)
  local targets = redis.call('HGET', P .. 'mapping:c2m', channel .. ':' .. point) or ''
  redis.call('HSET', P .. 'comsrv:' .. channel .. ':m', point, value)
  redis.call('HDEL', P .. 'comsrv:' .. channel .. ':quality', point)
  local reached = {}
  for target in string.gmatch(targets, '[^,]+') do
    local model, name = string.match(target, '^([^:]+):([^:]+)$')
    if model then
      redis.call('HSET', P .. 'modsrv:' .. model .. ':measurement', name, value)
      redis.call('HSET', P .. 'modsrv:' .. model .. ':ts', name, now)
      redis.call('HDEL', P .. 'modsrv:' .. model .. ':quality', name)
      redis.call('DEL', P .. 'cache:model:' .. model .. ':values')
      redis.call('PUBLISH', P .. 'modsrv:' .. model .. ':update', name .. ':' .. value)
      reached[#reached + 1] = { model, name }
      report[#report + 1] = target .. ' = ' .. value
    else
      report[#report + 1] = 'mapping of ' .. channel .. ':' .. point .. ' to "' .. target .. '" is malformed and was skipped'
    end
  end
  -- all values first, then alarms, then rules
  for _, t in ipairs(reached) do
    local ok, err = pcall(alarm_check, now, t[1], t[2], { value = value, number = v }, report)
    if not ok then report[#report + 1] = 'alarms of ' .. t[1] .. ':' .. t[2] .. ': ' .. tostring(type(err) == 'table' and err.err or err) end
  end
  for _, t in ipairs(reached) do
    for id in string.gmatch(redis.call('HGET', P .. 'rules:index', t[1] .. ':' .. t[2]) or '', '[^,]+') do
      run_rule(now, id, report)
    end
  end
  return report
end

local function m2c()
  if not ARGV[2] or not ARGV[3] or not ARGV[4] then return { 'INVALID', 'want: m2c <model> <control> <value>' } end
  return command_submit(now_ms(ARGV[5]), { id = '', key = '', model = ARGV[2], control = ARGV[3], value = ARGV[4],
    origin = 'script', user = '', timeout = 10000 }, false)
end

if ARGV[1] == 'batch' then return batch() end
local inactive = guard('')
if inactive then return inactive end
if ARGV[1] == 'c2m' then return c2m() end
if ARGV[1] == 'm2c' then return m2c() end
return { 'INVALID', 'want c2m, m2c or batch, not "' .. tostring(ARGV[1]) .. '"' }
