-- @include base
-- @include alarm_rule
-- @include alarm
-- The alarm rules of a batch. A rule costs a comparison with the limit that the
-- caller gives; only where that says that something may have changed is the rule
-- itself read, and decides.

-- "low:high" of a range, or one number.
local function limits_of(op, limit)
  if not RANGE[op] then return tonumber(limit), 0 end
  local low, high = string.match(limit, '^([^:]*):(.*)$')
  return tonumber(low), tonumber(high)
end

-- Whether a value in stored form may change where the rule stands. met and memory
-- are of its state.
local function alarm_moves(value, v, op, limit, hysteresis, met, memory)
  local t, high = limits_of(op, limit)
  if (RANGE[op] and t and high) or (t and not SPECIAL[op]) or BIT[op] or op == 'offline' then
    return alarm_meets(op, v, t or 0, high, met and hysteresis or 0) ~= met
  end
  if ABOUT_QUALITY[op] then return met end
  if op == 'change' then return memory ~= value end
  if op == 'rate' then
    local allowed, window = string.match(limit, '^([^:]*):(%d+)$')
    local from, since = string.match(memory, '^([^:]+):(%d*)$')
    allowed, from = tonumber(allowed), tonumber(from)
    if not allowed or not from then return true end
    if since == '' then return v ~= from end
    return not met and math.abs(v - from) > allowed * tonumber(window) / 1000
  end
  if op == 'deviation' then
    local allowed, model, point = string.match(limit, '^([^:]*):([^:]*):([^:]*)$')
    local ok, other = pcall(point_value, model, point)
    allowed = tonumber(allowed)
    if not ok or not other or not allowed then return true end
    return (apart(v, other) > moved(allowed, met and -hysteresis or 0)) ~= met
  end
  return true
end

-- What an item of the batch says, and whether its rule has to be read.
local function alarm_item(t, text, op, limit, hysteresis, state)
  local v, value, device = tonumber(text), text, nil
  if v and not state then -- nearly always a comparison that is not met
    local threshold = tonumber(limit)
    if threshold and compare(v, op, threshold) == false then return nil, false end
  end
  if not v and text ~= '' then
    local quality = string.match(text, '^!(%a+)$')
    if quality then
      local x = { quality = quality }
      if not state then return x, ABOUT_QUALITY[op] == true end
      return x, ABOUT_QUALITY[op] == true or string.match(state, '^[01]|%d*|(%a*)|') ~= quality
    end
    value, device = string.match(text, '^([^@]*)@(%d+)$')
    v = tonumber(value or '')
    if not v then return nil, false end
  end
  if not v then return nil, state ~= false or op == 'deviation' end
  local x = { value = value, number = v, device = device }
  if not state then return x, alarm_moves(value, v, op, limit, hysteresis, false, '') end
  local met, due, quality, memory = string.match(state, '^([01])|(%d*)|(%a*)|.*|([^|]*)$')
  if not met or quality ~= '' or (due ~= '' and tonumber(due) <= t) then return x, true end
  return x, alarm_moves(value, v, op, limit, hysteresis, met == '1', memory)
end

-- The items of a batch: one HMGET for all states, which is left out while every
-- rule of the site is normal.
local function batch_alarms(now, first, n, report)
  local count = redis.pcall('HLEN', P .. 'alarm:state')
  if type(count) == 'table' then
    report[#report + 1] = 'alarm:state: ' .. count.err
    return
  end
  local t, i, left, seen = tonumber(now), first, n, {}
  while left > 0 do
    local m, states = math.min(left, 1000), nil
    if count > 0 then
      local fields = {}
      for k = 1, m do fields[k] = ARGV[i + (k - 1) * 5] end
      states = redis.call('HMGET', P .. 'alarm:state', unpack(fields))
    end
    for k = 1, m do
      local at = i + (k - 1) * 5
      local name, state = ARGV[at], states and states[k] or false
      -- the same rule twice in a batch: the first may have changed the state
      if seen[name] then state = alarm_state(name) end
      local x, look = alarm_item(t, ARGV[at + 1], ARGV[at + 2], ARGV[at + 3], tonumber(ARGV[at + 4]) or 0, state)
      if look then
        seen[name] = true
        local model, point, rule = string.match(name, '^([^:]*):([^:]*):(.*)$')
        local ok, err = pcall(alarm_judge, now, model or '', point or '', rule or '', x, state)
        if not ok then report[#report + 1] = alarm_error(name, err) end
      end
    end
    i, left = i + m * 5, left - m
  end
end
