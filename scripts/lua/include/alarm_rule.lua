-- @include base
-- @include condition
-- Alarm rules: what is stored as JSON, as numbers, and whether a value meets it.
--
-- @keys r  alarm:rules:<model>:<point>     the rules of a point
-- @keys r  alarm:rules:channel:<channel>   (bad_quality, stale) whether the channel has an alarm of its own
-- @keys r  comsrv:<channel>:<status|owner>  (offline) whether the channel is online, and whose it is
-- @keys r  modsrv:<model>:text              whether a point without a number has a text
-- @keys r  model:<model>                   (bad_quality, stale) the channel of a point
local LONGEST = 2592000000 -- ms of a delay or window: 30 days
local NO_THRESHOLD = { change = true, stale = true, bad_quality = true, offline = true }
local RANGE = { in_range = true, out_of_range = true }
local BIT = { bit_set = true, bit_clear = true }
local SPECIAL = { in_range = true, out_of_range = true, deviation = true, rate = true, change = true,
  bit_set = true, bit_clear = true, stale = true, bad_quality = true, offline = true }
local ABOUT_QUALITY = { stale = true, bad_quality = true }
local SEVERITIES = { low = true, medium = true, high = true, critical = true }
local LONGEST_MESSAGE = 500 -- bytes

local function valid_id(s)
  return type(s) == 'string' and #s <= 64 and string.match(s, '^[A-Za-z0-9_.-]+$') ~= nil
end

-- Whether an id may be that of a model, which has points.
local function has_points(id) return valid_id(id) and id ~= 'channel' and id ~= 'rule' end

-- A number of a rule: the default where there is none, nil where it cannot be read.
local function rule_number(d, name, default)
  local v = field(d, name)
  if v == nil then return default end
  v = number(v)
  return v and tonumber(stored(v))
end

local function rule_whole(d, name, default, most)
  local v = rule_number(d, name, default)
  if not v or v < 0 or v > most or v ~= math.floor(v) then return nil end
  return v
end

-- "model:point", or a point of the same model.
local function rule_point(text, model)
  if type(text) ~= 'string' then return nil end
  local owner, name = string.match(text, '^([^:]+):([^:]+)$')
  if not owner then owner, name = model, text end
  if not has_points(owner) or not valid_id(name) then return nil end
  return { model = owner, point = name }
end

-- The condition under which a rule counts: nil for always, false where it cannot
-- be read.
local function rule_enable(d, model)
  local e = field(d, 'enable')
  if e == nil then return nil end
  if type(e) ~= 'table' then return false end
  local owner, point, operator = field(e, 'model_id'), field(e, 'point_name'), field(e, 'operator')
  local threshold = number(field(e, 'threshold'))
  if owner == nil or owner == '' then owner = model end
  if not has_points(owner) or not valid_id(point) or not threshold or compare(0, operator, 0) == nil then return false end
  return { model = owner, point = point, operator = operator, threshold = threshold }
end

-- A stored rule as a table, or nil where it is malformed. The bounds are those of
-- model.AlarmRule: what one takes for a rule, so does the other.
local function alarm_rule(text, model, point, rule)
  local d = decode(text)
  if not d or model == 'rule' or not valid_id(model) or not valid_id(point) or not valid_id(rule) then return nil end
  local op = field(d, 'operator')
  if type(op) ~= 'string' or (compare(0, op, 0) == nil and not SPECIAL[op]) then return nil end
  local r = { op = op, model = model, disabled = field(d, 'disabled') == true, latch = field(d, 'latch') == true,
    threshold = rule_number(d, 'threshold', NO_THRESHOLD[op] and 0 or nil), high = rule_number(d, 'high', 0),
    hysteresis = rule_number(d, 'hysteresis', 0), on_delay = rule_whole(d, 'on_delay_ms', op == 'offline' and 10000 or 0, LONGEST),
    off_delay = rule_whole(d, 'off_delay_ms', 0, LONGEST), window = rule_whole(d, 'window_ms', 0, LONGEST),
    count = rule_whole(d, 'count', 0, 50), enable = rule_enable(d, model) }
  local t, high, h = r.threshold, r.high, r.hysteresis
  if not t or not high or not h or not r.on_delay or not r.off_delay or not r.window or not r.count or r.enable == false then return nil end
  local latch, disabled = field(d, 'latch'), field(d, 'disabled')
  if disabled ~= nil and type(disabled) ~= 'boolean' then return nil end
  if h < 0 or (latch ~= nil and type(latch) ~= 'boolean') or (op == 'offline') ~= (model == 'channel') then return nil end
  if RANGE[op] then
    if high < t or (op == 'out_of_range' and 2 * h > high - t) then return nil end -- no high is 0
  elseif high ~= 0 then
    return nil
  end
  if BIT[op] and (t < 0 or t > 52 or t ~= math.floor(t)) then return nil end
  if (op == 'deviation' and t < 0) or (op == 'rate' and t <= 0) then return nil end
  if (op == 'deviation' or op == 'rate') and h > t then return nil end
  local reference = field(d, 'reference')
  if op == 'deviation' then
    r.reference = rule_point(reference, model)
    if not r.reference or (r.reference.model == model and r.reference.point == point) then return nil end
  elseif reference ~= nil and reference ~= '' then
    return nil
  end
  if r.count > 1 then
    if r.window == 0 or r.on_delay > 0 or r.off_delay > 0 or op == 'rate' then return nil end
  elseif op == 'rate' then
    if r.window == 0 then r.window = 1000 end
  elseif r.window > 0 then
    return nil
  end
  if op == 'change' and r.on_delay > 0 then return nil end
  r.severity, r.message = field(d, 'severity'), field(d, 'message')
  if r.severity == nil or r.severity == '' then r.severity = 'medium' end
  if r.message == nil then r.message = '' end
  if type(r.severity) ~= 'string' or not SEVERITIES[r.severity] then return nil end
  if type(r.message) ~= 'string' or #r.message > LONGEST_MESSAGE then return nil end
  return r
end

-- What the message of an alarm is where its rule has none. value is in stored
-- form, quality what is wrong with it.
local function alarm_text(r, model, point, value, quality)
  local what = model .. '.' .. point
  local op, t = r.op, stored(r.threshold)
  if op == 'offline' then return 'channel ' .. point .. ' is offline' end
  if ABOUT_QUALITY[op] then return what .. ' is ' .. quality end
  what = what .. ' = ' .. value
  if RANGE[op] then return what .. ' ' .. op .. ' ' .. t .. '..' .. stored(r.high) end
  if op == 'deviation' then return what .. ' is more than ' .. t .. ' away from ' .. r.reference.model .. '.' .. r.reference.point end
  if op == 'rate' then return what .. ' changes by more than ' .. t .. ' a second' end
  if op == 'change' then return what .. ' has changed' end
  if op == 'bit_set' then return what .. ' has bit ' .. string.format('%d', r.threshold) .. ' set' end
  if op == 'bit_clear' then return what .. ' has bit ' .. string.format('%d', r.threshold) .. ' clear' end
  return what .. ' ' .. op .. ' ' .. t
end

-- A limit moved by the hysteresis, with six decimals as values have: 0.3 - 0.1 is
-- not 0.2 in binary.
local function moved(limit, by)
  if by == 0 then return limit end
  return tonumber(stored(limit + by))
end

-- Whether a value meets a condition that needs nothing else. h is how far it has
-- to come back: the hysteresis while the condition is met, else 0. nil where the
-- operator is another one, or the value has no bits.
local function alarm_meets(op, v, t, high, h)
  if op == '>' or op == '>=' then return compare(v, op, moved(t, -h)) end
  if op == '<' or op == '<=' then return compare(v, op, moved(t, h)) end
  if op == '==' or op == '!=' then return compare(v, op, t) end
  if op == 'out_of_range' then return v < moved(t, h) or v > moved(high, -h) end
  if op == 'in_range' then return v >= moved(t, -h) and v <= moved(high, h) end
  if op == 'bit_set' or op == 'bit_clear' then
    if v < 0 then return nil end
    return (math.floor(v / 2 ^ t) % 2 == 1) == (op == 'bit_set')
  end
  if op == 'offline' then return v ~= 0 end
  return nil
end

-- How far two values are apart, with six decimals.
local function apart(a, b) return tonumber(stored(math.abs(a - b))) end

-- What a rule is judged by when no sample is at hand: value (in stored form) and
-- number, or the quality that keeps it from being judged.
local function alarm_input(model, point)
  if model == 'channel' then
    local status = redis.call('HGET', P .. 'comsrv:' .. point .. ':status', 'state')
    if redis.call('EXISTS', P .. 'comsrv:' .. point .. ':owner') == 0 or status == 'offline' or status == 'stopped' then
      return { value = '1.000000', number = 1 }
    end
    if status == 'online' then return { value = '0.000000', number = 0 } end
    return { quality = 'uncertain' } -- connecting: nobody knows yet
  end
  local v, quality = point_value(model, point)
  if v then return { value = stored(v), number = v } end
  if quality == nil and redis.call('HGET', P .. 'modsrv:' .. model .. ':text', point) then
    return { quality = '' } -- usable, and nothing to compare
  end
  return { quality = quality or 'bad', unknown = quality == nil }
end

-- Whether the quality of a point is its channel's fault, and the channel has an
-- alarm of its own.
local function alarm_grouped(model, point)
  local bound = redis.call('HGET', P .. 'model:' .. model, 'binding:' .. point)
  local channel = bound and string.match(bound, '^%a+:([^:]+):[^:]+$')
  if not channel then return false end
  for _, text in ipairs(redis.call('HVALS', P .. 'alarm:rules:channel:' .. channel)) do
    local r = alarm_rule(text, 'channel', channel, 'any')
    if r and not r.disabled then return true end
  end
  return false
end

-- Rate of change, by an anchor "value:time" that is moved on once a window. While
-- the value stands still the anchor has no time, and nothing has to be looked at.
-- Returns whether it is too fast (nil: as before), the anchor, and when to look again.
local function alarm_rate(r, v, now, met, anchor)
  local from, since = string.match(anchor, '^([^:]+):(%d*)$')
  from = from and tonumber(from)
  if not from then return nil, stored(v) .. ':' .. string.format('%.0f', now), now + r.window end
  if since == '' then
    if v == from then return false, anchor, nil end
    since = now -- it stood still until now
  end
  since = tonumber(since)
  local moved_by = math.abs(v - from)
  if now < since + r.window then
    local fast = moved_by > r.threshold * r.window / 1000
    return fast or nil, stored(from) .. ':' .. string.format('%.0f', since), since + r.window
  end
  local limit = r.threshold
  if met then limit = limit - r.hysteresis end
  local fast = moved_by * 1000 / (now - since) > limit
  if v == from then return fast, stored(v) .. ':', nil end
  return fast, stored(v) .. ':' .. string.format('%.0f', now), now + r.window
end
