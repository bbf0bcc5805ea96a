-- @include base
-- @include condition
-- @include notify
-- @include alarm_rule
-- @include alarm_state
-- The life of an alarm after ISA-18.2 (IEC 62682): what a value, the end of a
-- delay or of a suppression does to it.
--
-- @keys rw alarm:counter  makes the ids
-- @keys p  alarm:new      the id of an alarm that was raised

-- The last value of a point, whatever its quality; nil where there is none.
local function alarm_last(model, point)
  for _, kind in ipairs(KINDS) do
    local v = redis.call('HGET', P .. 'modsrv:' .. model .. ':' .. kind, point)
    if v then return v end
  end
  return nil
end

-- First what may fail: no alarm is open of which the journal does not know.
local function alarm_open(now, a)
  redis.call('SADD', P .. 'alarm:active', a.id)
  alarm_to(now, 'raised', a, 'active')
end

-- A condition that is in alarm from now on: a new record, or the open one again.
local function alarm_raise(now, a)
  local r, again = a.r, alarm_load(a)
  if again then
    local id = a.id
    if r.message == '' then a.record.message = alarm_text(r, a.model, a.point, a.value or a.record.value, a.said or '') end
    alarm_to(now, 'reraised', a, 'active')
    redis.call('HSET', P .. 'alarm:' .. id, 'status', 'active', 'value', a.value or a.record.value, 'message', a.record.message,
      'count', string.format('%d', (number(a.record.count) or 1) + 1))
    redis.call('HDEL', P .. 'alarm:' .. id, 'cleared_at', 'acknowledged_at', 'acknowledged_by') -- of before
  else
    a.id = string.format('%d', redis.call('INCR', P .. 'alarm:counter'))
    a.record = { severity = r.severity, value = a.value or '0.000000', threshold = stored(r.threshold), message = r.message, count = '1' }
    if r.message == '' then a.record.message = alarm_text(r, a.model, a.point, a.record.value, a.said or '') end
    local ok, err = pcall(alarm_open, now, a)
    if not ok then -- it is tried again
      redis.pcall('SREM', P .. 'alarm:active', a.id)
      a.id, a.record = '', nil
      error(err, 0)
    end
    local key = P .. 'alarm:' .. a.id
    -- a counter that was lost with the data starts again
    if redis.call('DEL', key) == 1 then redis.call('ZREM', P .. 'alarm:closed', a.id) end
    redis.call('HSET', key, 'id', a.id, 'model_id', a.model, 'point_name', a.point, 'value', a.record.value,
      'rule_id', a.rule, 'timestamp', now, 'status', 'active', 'severity', r.severity, 'message', a.record.message,
      'threshold', a.record.threshold, 'high', stored(r.high), 'operator', r.op, 'count', '1',
      'notified', alarm_suppression(a) == '' and '1' or '0')
    if a.device then redis.call('HSET', key, 'device_time', a.device) end
    if alarm_suppression(a) ~= '' then alarm_mark(a) end
    redis.call('PUBLISH', P .. 'alarm:new', a.id)
  end
  if alarm_suppression(a) == '' then alarm_notify(now, a.moves[#a.moves], a, '', not again) end
  forget_times(a.raises, tonumber(now), CHATTER_TIME)
  a.raises[#a.raises + 1] = now
  if not a.chatter and #a.raises >= CHATTER_COUNT then
    a.chatter = true
    alarm_journal(now, 'chattering', a)
    redis.call('HSET', P .. 'alarm:' .. a.id, 'chattering', '1')
  end
end

-- The condition is over. An alarm that was acknowledged, or that nobody is told
-- of, is over with it.
local function alarm_clear(now, a)
  if not alarm_load(a) then return end
  local id, transition, status = a.id, 'cleared', 'cleared'
  if a.r.latch then
    transition, status = 'latched', 'latched'
  elseif a.status == 'acknowledged' or alarm_suppression(a) ~= '' then
    status = 'closed'
  end
  alarm_to(now, transition, a, status)
  redis.call('HSET', P .. 'alarm:' .. id, 'status', a.status, 'cleared_at', now)
  if a.chatter then
    a.chatter, a.raises = false, {}
    redis.call('HDEL', P .. 'alarm:' .. id, 'chattering')
  end
  if alarm_suppression(a) == '' then alarm_notify(now, transition, a) end
  if a.status == 'closed' then alarm_end(now, a) end
end

-- Ends a suppression (flag: shelved, out or design), if the journal takes it:
-- whoever is to be told is told, and an alarm that stands is unacknowledged again.
local function alarm_resume(now, a, flag, transition, by, comment)
  local open = alarm_load(a)
  a[flag] = false
  local told = open and alarm_suppression(a) == '' and alarm_in(a)
  local ok, err = pcall(alarm_to, now, transition, a, told and 'active' or a.status, by, comment)
  if not ok then
    a[flag] = true
    error(err, 0)
  end
  if flag ~= 'design' then
    a.till = ''
    redis.pcall('HDEL', P .. 'alarm:shelved', a.name)
  end
  if not open then return end
  alarm_mark(a)
  if told then
    redis.call('HSET', P .. 'alarm:' .. a.id, 'status', 'active')
    redis.call('HDEL', P .. 'alarm:' .. a.id, 'acknowledged_at', 'acknowledged_by')
    alarm_notify(now, transition, a, by)
  end
end

-- Ends shelving whose time is over.
local function alarm_unshelve_late(now, a)
  if not a.shelved or tonumber(a.till) > tonumber(now) then return end
  alarm_resume(now, a, 'shelved', 'unshelved', 'system', 'the time of shelving is over')
end

-- Whether the rule counts at all. While the other point is not usable, its last
-- usable value, which is the one that is stored, decides; where it never had one,
-- as before.
local function alarm_enabled(now, a)
  local e = a.r.enable
  local design = a.design
  if not e then
    design = false
  else
    local v = point_value(e.model, e.point) or number(alarm_last(e.model, e.point))
    if v then design = not compare(v, e.operator, e.threshold) end
  end
  if design == a.design then return end
  if not design then
    if a.id ~= '' then alarm_resume(now, a, 'design', 'unsuppressed') end
    a.design = false
    if a.met and not alarm_in(a) then a.since = now end -- the delay counts from here
    return
  end
  a.design = true
  if a.id ~= '' then
    local ok, err = pcall(alarm_journal, now, 'suppressed', a)
    if not ok then
      a.design = false
      error(err, 0)
    end
    alarm_mark(a)
  end
  a.edges = {}
end

-- What the rule says of the input: true, false, or nil for as before. The second
-- is whether anything may be decided at all, the third the quality that forbids it.
local function alarm_condition(now, a, x)
  local r = a.r
  if ABOUT_QUALITY[r.op] then
    local q = x.quality
    if x.unknown then return nil, false, q end -- nobody has written it yet
    if q == 'offline' and alarm_grouped(a.model, a.point) then return nil, false, q end
    if r.op == 'stale' then return q == 'stale' or q == 'offline', true, '' end
    return q ~= nil and q ~= '', true, ''
  end
  if not x.number then
    if r.op == 'rate' then a.memory = '' end -- what was before a gap says nothing
    return nil, false, x.quality
  end
  local h = a.met and r.hysteresis or 0
  if r.op == 'deviation' then
    local other, quality = point_value(r.reference.model, r.reference.point)
    if not other then return nil, false, quality or 'bad' end
    return compare(apart(x.number, other), '>', moved(r.threshold, -h)), true, ''
  end
  if r.op == 'rate' then
    local fast, anchor, due = alarm_rate(r, x.number, tonumber(now), a.met, a.memory)
    a.memory = anchor
    if due then alarm_sooner(a, due) end
    return fast, true, ''
  end
  if r.op == 'change' then
    local before = a.memory
    a.memory = x.value
    return before ~= '' and before ~= x.value, true, ''
  end
  local met = alarm_meets(r.op, x.number, r.threshold, r.high, h)
  if met == nil then return nil, false, 'invalid' end
  return met, true, ''
end

-- Lets the condition and the time that has passed have their effect.
local function alarm_settle(now, a, met)
  local r, t = a.r, tonumber(now)
  if met ~= nil and met ~= a.met then
    a.met, a.since = met, now
    if met and r.count > 1 and not a.design then
      a.edges[#a.edges + 1] = now
      if #a.edges > r.count then table.remove(a.edges, 1) end
    end
  end
  local want = a.met
  if r.count > 1 then
    forget_times(a.edges, t, r.window)
    want = #a.edges >= r.count
    if a.edges[1] then alarm_sooner(a, tonumber(a.edges[1]) + r.window) end
  elseif #a.edges > 0 then
    a.edges = {} -- of what the rule was before
  end
  local since = tonumber(a.since)
  if not since or since > t then since, a.since = t, now end -- the clock was set back: no delay waits for that
  if want and not alarm_in(a) and not a.design then
    if t >= since + r.on_delay then alarm_raise(now, a) else alarm_sooner(a, since + r.on_delay) end
  elseif not want and alarm_in(a) then
    local delay = a.chatter and math.max(r.off_delay, CHATTER_TIME) or r.off_delay
    if t >= since + delay then alarm_clear(now, a) else alarm_sooner(a, since + delay) end
  end
end

local function alarm_show(a, quality)
  if quality == a.quality then return end
  a.quality = quality
  if a.id == '' then return end
  if quality == '' then
    redis.call('HDEL', P .. 'alarm:' .. a.id, 'quality')
  else
    redis.call('HSET', P .. 'alarm:' .. a.id, 'quality', quality)
  end
end

local function alarm_decide(now, a, x)
  a.due = ''
  alarm_unshelve_late(now, a)
  if a.shelved then alarm_sooner(a, tonumber(a.till)) end
  if a.id == '' then forget_times(a.raises, tonumber(now), CHATTER_TIME) end
  if not a.r or a.r.disabled then -- what is open stays until a person ends it
    a.edges, a.memory = {}, ''
    if a.id == '' then a.met = false end
    return
  end
  if a.id ~= '' then alarm_load(a) end
  local met, usable, quality = alarm_condition(now, a, x)
  a.value, a.device = x.value, x.device
  if usable and not a.value then a.value = alarm_last(a.model, a.point) or '0.000000' end
  alarm_show(a, quality)
  if not usable then return end
  if met or a.met or a.id ~= '' then alarm_enabled(now, a) end
  if ABOUT_QUALITY[a.r.op] then a.said = x.quality end
  alarm_settle(now, a, met)
  if a.r.op == 'change' and met then alarm_settle(now, a, false) end
end

-- One rule against an input: what the sample says (value in stored form, number,
-- device time, or the quality that makes it unusable), nil for what is stored.
-- text is the rule's entry of alarm:state, or false. fired says that its timer has
-- been taken. The result has the transitions in moves, and r is nil where the rule
-- is gone or malformed.
local function alarm_judge(now, model, point, rule, x, text, fired)
  local a = alarm_at(model, point, rule, text)
  if fired then a.timed = '' end
  a.r = alarm_rule(redis.call('HGET', P .. 'alarm:rules:' .. model .. ':' .. point, rule), model, point, rule)
  local ok, err = pcall(alarm_decide, now, a, x or alarm_input(model, point))
  if not ok then alarm_sooner(a, tonumber(now) + 1000) end -- then it is tried again
  alarm_save(a)
  if not ok then error(err, 0) end
  return a
end

-- What an input says that is given as text: a number in any form, or "!" and a
-- quality. nil where it is neither.
local function alarm_given(text)
  local quality = type(text) == 'string' and string.match(text, '^!(%a+)$')
  if quality == 'good' or quality == 'uncertain' or quality == 'substituted' then return nil end
  if quality then return { quality = quality } end
  local v = number(text)
  return v and { value = stored(v), number = v }
end

local function alarm_error(name, err)
  return 'alarm rule ' .. name .. ': ' .. tostring(type(err) == 'table' and err.err or err)
end

-- Every rule that is stored for a point, against one input: the way of the
-- hand-callable forms. A rule that cannot be read is skipped and named.
local function alarm_check(now, model, point, x, report)
  local rules, texts, ids = redis.call('HGETALL', P .. 'alarm:rules:' .. model .. ':' .. point), {}, {}
  for i = 1, #rules, 2 do
    ids[#ids + 1] = rules[i]
    texts[rules[i]] = rules[i + 1]
  end
  table.sort(ids) -- a hash has no order, and the ids of the alarms follow from it
  for _, id in ipairs(ids) do
    local r = alarm_rule(texts[id], model, point, id)
    if not r then
      report[#report + 1] = 'alarm rule ' .. id .. ' of ' .. model .. ':' .. point .. ' is malformed and was skipped'
    elseif not r.disabled then
      local name = model .. ':' .. point .. ':' .. id
      local ok, a = pcall(alarm_judge, now, model, point, id, x, alarm_state(name))
      if not ok then
        report[#report + 1] = alarm_error(name, a)
      else
        for _, move in ipairs(a.moves) do report[#report + 1] = 'alarm ' .. id .. ' of ' .. model .. ':' .. point .. ' ' .. move end
      end
    end
  end
end

-- A rule whose timer has been taken. Where it cannot be judged, its state or its
-- rule being another program's, it is tried again a second later.
local function alarm_fire(now, member, report)
  local model, point, rule = string.match(member, '^alarm:([^:]*):([^:]*):(.+)$')
  if not model then
    report[#report + 1] = 'timer "' .. member .. '" is of nobody and was taken away'
    return
  end
  local name = model .. ':' .. point .. ':' .. rule
  local ok, err = pcall(alarm_judge, now, model, point, rule, nil, alarm_state(name), true)
  if not ok then
    report[#report + 1] = alarm_error(name, err)
    redis.call('ZADD', P .. 'timers', 'NX', ms(tonumber(now) + 1000), member)
  end
end

-- The rules whose time has come, at most so many: delays that are over, shelving
-- that ends, rules that have changed. Returns how many, and whether there are more.
local function alarm_due(now, most, report)
  local timers = P .. 'timers'
  local list = redis.pcall('ZRANGEBYSCORE', timers, '-inf', now, 'LIMIT', 0, most + 1)
  if list.err then
    report[#report + 1] = 'timers: ' .. list.err
    return 0, false
  end
  if #list == 0 then return 0, false end
  local states = redis.pcall('HLEN', P .. 'alarm:state')
  if type(states) == 'table' then -- of another type: the timers wait for it
    report[#report + 1] = 'alarm:state: ' .. states.err
    return 0, false
  end
  for i = 1, math.min(#list, most) do
    redis.call('ZREM', timers, list[i])
    alarm_fire(now, list[i], report)
  end
  return math.min(#list, most), #list > most
end
