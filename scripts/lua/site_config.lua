-- site_config: definitions of models, points, alarm rules and rules
-- @version 1.3.0
-- @include base
--
-- Changes mapping:version where something that batches are resolved with has
-- changed.
--
-- @form model <now> <generation> <id> <json> <enabled 1|0> [<kind> <name> <channel:point> …]
--   Defines a model and its bindings. An empty json stands for none. With the
--   kind policy, what follows the name is the JSON of that control's policy.
-- @form points <now> <generation> <channel> [<point> <json> …]
--   Defines all points of a channel.
-- @form alarm_rule <now> <generation> <model> <point> <rule> <json>
--   Defines an alarm rule.
-- @form rule <now> <generation> <id> <name> <disabled 1|0> <conditions json> <actions json> [<model:point> …]
--   Defines a rule; the points are those that it looks at.
-- @form drop_model <now> <generation> <id>
--   Removes a model, its bindings and its values.
-- @form drop_points <now> <generation> <channel>
--   Removes a channel's points and values.
-- @form drop_alarm_rule <now> <generation> <model> <point> <rule>
--   Removes an alarm rule, and what is pending of it. An alarm that it raised stays open.
-- @form drop_rule <now> <generation> <id>
--   Removes a rule and its statistics.
-- @form touch <now> <generation> [<model:point> <rules> …]
--   Others changed a definition; replaces the index by the rules of each point.
-- @reply 1 where something changed, 0 where all was so before; NOTFOUND and the id
-- @code OK        it is so now
-- @code NOTFOUND  (drop_…) there was nothing to remove
-- @code INVALID   there is no such operation
-- @keys rw mapping:c2m                  the targets of each point
-- @keys rw mapping:m2c                  the point of each control
-- @keys w  mapping:version              changes with every definition that batches depend on
-- @keys rw model:<id>                   the definition
-- @keys rw model:enabled                the enabled models
-- @keys rw point:<channel>              the definitions of a channel's points
-- @keys rw alarm:rules:<model>:<point>  the alarm rules
-- @keys w  timers                       a changed alarm rule is looked at soon
-- @keys rw rule:<id>                    the rule
-- @keys rw rules:index                  the rules that look at a point
-- @keys w  rules:state                  forgotten with a rule, and when it changes
-- @keys w  rule:stats:<id>              forgotten with a rule
-- @keys w  modsrv:<model>:<measurement|signal|control|adjustment|text|ts|quality>  values of what is another point's now
-- @keys w  comsrv:<channel>:<m|s|c|a|text|ts|quality|status>  values of what is another point's now
local op, id = ARGV[1], ARGV[4]
local refusal = guard(ARGV[3])
if refusal then return refusal end

-- mapping:c2m keeps several targets of a point separated by commas
local function targets_of(source)
  local list = {}
  for t in string.gmatch(redis.call('HGET', P .. 'mapping:c2m', source) or '', '[^,]+') do list[#list + 1] = t end
  return list
end

local function store_targets(source, list)
  if #list == 0 then
    redis.call('HDEL', P .. 'mapping:c2m', source)
  else
    redis.call('HSET', P .. 'mapping:c2m', source, table.concat(list, ','))
  end
end

local function unbind(source, target)
  local kept = {}
  for _, t in ipairs(targets_of(source)) do
    if t ~= target then kept[#kept + 1] = t end
  end
  store_targets(source, kept)
end

local function bind(source, target)
  local list = targets_of(source)
  for _, t in ipairs(list) do
    if t == target then return end
  end
  list[#list + 1] = target
  store_targets(source, list)
end

-- Forgets the current value of a name in the hashes of a model or a channel: it
-- is another point's now, or of another kind, and nobody may decide on it.
local MODEL_PARTS = { 'measurement', 'signal', 'control', 'adjustment', 'text', 'ts', 'quality' }
local CHANNEL_PARTS = { 'm', 's', 'c', 'a', 'text', 'ts', 'quality' }
local function forget(owner, parts, name)
  for _, part in ipairs(parts) do redis.pcall('HDEL', P .. owner .. ':' .. part, name) end
end

-- Takes back what the stored definition of a model had bound. fields is the new
-- one, nil where there is none.
local function unbind_model(key, fields)
  local old = redis.call('HGETALL', key)
  for i = 1, #old, 2 do
    local name = string.match(old[i], '^binding:(.+)$')
    if name then
      unbind(string.match(old[i + 1], '^%a+:(.+)$') or '', id .. ':' .. name)
      redis.call('HDEL', P .. 'mapping:m2c', id .. ':' .. name)
      if fields and fields[old[i]] ~= old[i + 1] then forget('modsrv:' .. id, MODEL_PARTS, name) end
    end
  end
end

-- Ends the script before its first write where a mapping of a foreign type would
-- leave half a change.
local function check_mapping()
  redis.call('HLEN', P .. 'mapping:c2m')
  redis.call('HLEN', P .. 'mapping:m2c')
end

-- What would be written, as text, to see whether anything changes at all.
local function same_hash(key, fields)
  local now, n = redis.call('HGETALL', key), 0
  for i = 1, #now, 2 do
    if fields[now[i]] ~= now[i + 1] then return false end
    n = n + 1
  end
  for _ in pairs(fields) do n = n - 1 end
  return n == 0
end

local function changed()
  local r = redis.pcall('INCR', P .. 'mapping:version')
  if type(r) == 'table' and r.err then -- another program keeps something else there
    redis.call('SET', P .. 'mapping:version', now_ms(ARGV[2]))
  end
  return { 'OK', '1' }
end

if op == 'touch' then
  redis.call('DEL', P .. 'rules:index')
  for i = 4, #ARGV, 2 do redis.call('HSET', P .. 'rules:index', ARGV[i], ARGV[i + 1]) end
  return changed()
end

if op == 'model' then
  local key = P .. 'model:' .. id
  local fields, bindings = { json = ARGV[5] }, {}
  for i = 7, #ARGV, 3 do
    if ARGV[i] == 'policy' then
      fields['policy:' .. ARGV[i + 1]] = ARGV[i + 2]
    else
      fields['binding:' .. ARGV[i + 1]] = ARGV[i] .. ':' .. ARGV[i + 2]
      bindings[#bindings + 1] = { kind = ARGV[i], name = ARGV[i + 1], source = ARGV[i + 2] }
    end
  end
  local enabled = redis.call('SISMEMBER', P .. 'model:enabled', id) == 1
  if same_hash(key, fields) and enabled == (ARGV[6] == '1') then
    -- the definition is the same; make sure that the mapping still follows it
    local complete = true
    for _, b in ipairs(bindings) do
      local found = false
      for _, t in ipairs(targets_of(b.source)) do found = found or t == id .. ':' .. b.name end
      complete = complete and found
      if b.kind == 'control' or b.kind == 'adjustment' then
        complete = complete and redis.call('HGET', P .. 'mapping:m2c', id .. ':' .. b.name) == b.source
      end
    end
    if complete then return { 'OK', '0' } end
  end
  check_mapping()
  unbind_model(key, fields)
  redis.call('DEL', key)
  for name, value in pairs(fields) do redis.call('HSET', key, name, value) end
  for _, b in ipairs(bindings) do
    bind(b.source, id .. ':' .. b.name)
    if b.kind == 'control' or b.kind == 'adjustment' then
      redis.call('HSET', P .. 'mapping:m2c', id .. ':' .. b.name, b.source)
    end
  end
  redis.call(ARGV[6] == '1' and 'SADD' or 'SREM', P .. 'model:enabled', id)
  return changed()
end

if op == 'drop_model' then
  local key = P .. 'model:' .. id
  if redis.call('EXISTS', key) == 0 then return { 'NOTFOUND', id } end
  check_mapping()
  redis.call('SISMEMBER', P .. 'model:enabled', id) -- the same
  unbind_model(key)
  redis.call('DEL', key)
  redis.call('SREM', P .. 'model:enabled', id)
  for _, part in ipairs(MODEL_PARTS) do
    redis.call('DEL', P .. 'modsrv:' .. id .. ':' .. part)
  end
  return changed()
end

if op == 'points' then
  local key, fields = P .. 'point:' .. id, {}
  for i = 5, #ARGV, 2 do fields[ARGV[i]] = ARGV[i + 1] end
  if same_hash(key, fields) then return { 'OK', '0' } end
  check_mapping()
  local old = redis.call('HGETALL', key)
  for i = 1, #old, 2 do
    local before, after = decode(old[i + 1]) or {}, decode(fields[old[i]])
    if not after or field(before, 'kind') ~= field(after, 'kind') or field(before, 'text') ~= field(after, 'text') then
      forget('comsrv:' .. id, CHANNEL_PARTS, old[i])
      for _, t in ipairs(targets_of(id .. ':' .. old[i])) do
        local model, name = string.match(t, '^([^:]+):([^:]+)$')
        if model then forget('modsrv:' .. model, MODEL_PARTS, name) end
      end
    end
  end
  redis.call('DEL', key)
  for i = 5, #ARGV, 2 do redis.call('HSET', key, ARGV[i], ARGV[i + 1]) end
  return changed()
end

if op == 'drop_points' then
  if redis.call('DEL', P .. 'point:' .. id) == 0 then return { 'NOTFOUND', id } end
  for _, part in ipairs(CHANNEL_PARTS) do
    redis.call('DEL', P .. 'comsrv:' .. id .. ':' .. part)
  end
  redis.call('DEL', P .. 'comsrv:' .. id .. ':status')
  return changed()
end

-- Has alarm_tick judge the rule with what is stored, without waiting for a sample.
local function alarm_soon()
  redis.pcall('ZADD', P .. 'timers', now_ms(ARGV[2]), 'alarm:' .. id .. ':' .. ARGV[5] .. ':' .. ARGV[6])
end

if op == 'alarm_rule' then
  local key = P .. 'alarm:rules:' .. id .. ':' .. ARGV[5]
  if redis.call('HGET', key, ARGV[6]) == ARGV[7] then return { 'OK', '0' } end
  redis.call('HSET', key, ARGV[6], ARGV[7])
  alarm_soon()
  return changed()
end

if op == 'drop_alarm_rule' then
  if redis.call('HDEL', P .. 'alarm:rules:' .. id .. ':' .. ARGV[5], ARGV[6]) == 0 then return { 'NOTFOUND', id } end
  alarm_soon()
  return changed()
end

-- rules:index keeps, for each point, the rules that look at it
local function unindex_rule(old)
  for source in string.gmatch(old or '', '[^,]+') do
    local kept = {}
    for r in string.gmatch(redis.call('HGET', P .. 'rules:index', source) or '', '[^,]+') do
      if r ~= id then kept[#kept + 1] = r end
    end
    if #kept == 0 then
      redis.call('HDEL', P .. 'rules:index', source)
    else
      redis.call('HSET', P .. 'rules:index', source, table.concat(kept, ','))
    end
  end
end

if op == 'rule' then
  local key = P .. 'rule:' .. id
  local sources = {}
  for i = 9, #ARGV do sources[#sources + 1] = ARGV[i] end
  local fields = { id = id, name = ARGV[5], disabled = ARGV[6], conditions = ARGV[7], actions = ARGV[8],
    points = table.concat(sources, ',') }
  local indexed = true
  for _, s in ipairs(sources) do
    local list = ',' .. (redis.call('HGET', P .. 'rules:index', s) or '') .. ','
    indexed = indexed and string.find(list, ',' .. id .. ',', 1, true) ~= nil
  end
  if indexed and same_hash(key, fields) then return { 'OK', '0' } end
  unindex_rule(redis.call('HGET', key, 'points'))
  redis.call('DEL', key)
  for name, value in pairs(fields) do redis.call('HSET', key, name, value) end
  for _, s in ipairs(sources) do
    local list = redis.call('HGET', P .. 'rules:index', s)
    redis.call('HSET', P .. 'rules:index', s, list and (list .. ',' .. id) or id)
  end
  redis.call('HDEL', P .. 'rules:state', id)
  return changed()
end

if op == 'drop_rule' then
  local key = P .. 'rule:' .. id
  if redis.call('EXISTS', key) == 0 then return { 'NOTFOUND', id } end
  unindex_rule(redis.call('HGET', key, 'points'))
  redis.call('DEL', key, P .. 'rule:stats:' .. id)
  redis.call('HDEL', P .. 'rules:state', id)
  return changed()
end

return { 'INVALID', 'unknown operation "' .. tostring(op) .. '"' }
