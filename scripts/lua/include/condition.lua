-- @include base
-- Conditions: what alarm rules, rules and interlocks judge by.
--
-- @keys r  modsrv:<model>:<measurement|signal|control|adjustment|quality>  what a condition looks at
local KINDS = { 'measurement', 'signal', 'control', 'adjustment' }

-- a <operator> b, on values with six decimals. Unknown operators answer nil.
local function compare(a, operator, b)
  if operator == '>' then return a > b end
  if operator == '>=' then return a >= b end
  if operator == '<' then return a < b end
  if operator == '<=' then return a <= b end
  if operator == '==' then return math.abs(a - b) < 0.0000005 end
  if operator == '!=' then return math.abs(a - b) >= 0.0000005 end
  return nil
end

-- The value of a model's point as a number; nil when there is none, or its
-- quality, which comes second, is not good enough to decide on.
local function point_value(model, point)
  local quality = redis.call('HGET', P .. 'modsrv:' .. model .. ':quality', point)
  if quality and quality ~= 'uncertain' and quality ~= 'substituted' then return nil, quality end
  for _, kind in ipairs(KINDS) do
    local v = redis.call('HGET', P .. 'modsrv:' .. model .. ':' .. kind, point)
    if v then return number(v) end
  end
  return nil
end
