-- Every script starts with this: the key prefix, the time, plain numbers, and
-- the check that the caller and this script still belong to this data.
-- Arguments that many scripts have: now is Unix milliseconds, empty for the
-- clock of Redis; generation is the content of site:generation that the caller
-- knows, empty for callers who do not care.
--
-- @code GENERATION  the site's data was lost or replaced; nothing was changed. Then the generation that it has now
-- @code INACTIVE    another version of this script is active; nothing was changed. Then that version
-- @keys r site:generation       whether the data is still the caller's
-- @keys r lua:version:<script>  whether this version is the active one
-- @keys r lua:canary:<script>   whether it is on trial for the channel
-- @keys r anchor                never there: whether the site's slot is all on this node

-- KEYS[1], where given, is "{<site>}:anchor"; without KEYS there is no prefix.
local P = ''
if KEYS[1] then P = string.sub(KEYS[1], 1, #KEYS[1] - 6) end

-- Unix milliseconds as text: the given time in tests, else the clock of Redis.
local function now_ms(given)
  if given and given ~= '' then return given end
  local t = redis.call('TIME')
  return string.format('%d%03d', tonumber(t[1]), math.floor(tonumber(t[2]) / 1000))
end

-- A finite decimal number without an exponent and within ±1e15, or nil. tonumber
-- alone accepts 'nan', 'inf' and '0x10', and differs between the stores on '1e3'
-- and on more than 19 digits.
local function number(text)
  if type(text) == 'number' then text = string.format('%.6f', text) end
  if type(text) ~= 'string' or #text > 40 then return nil end
  if string.match(text, '^[+-]?%d+%.?%d*$') or string.match(text, '^[+-]?%.%d+$') then
    local n = tonumber((string.gsub(text, '^%+', '')))
    if n and n >= -1e15 and n <= 1e15 then return n end
  end
  return nil
end

-- The stored form of a number: six decimals and no negative zero.
local function stored(n)
  local s = string.format('%.6f', n)
  if s == '-0.000000' then return '0.000000' end
  return s
end

-- GENERATION when the site's data is not the caller's any more (it was lost or
-- replaced), INACTIVE when another version of this script is the active one, and
-- this one is not on trial for the channel. Callers by hand pass no generation
-- and are not held up.
-- The anchor does not exist: while the site's slot moves from one node of a
-- cluster to another, Redis refuses a command with several keys of which one is
-- missing. So no script runs on the part of the data that one of them has.
local function guard(generation, channel)
  local head = redis.call('MGET', P .. 'site:generation', P .. 'lua:version:' .. SCRIPT, P .. 'anchor')
  if generation ~= '' and head[1] ~= generation then return { 'GENERATION', head[1] or '' } end
  if head[2] and head[2] ~= VERSION then
    if not channel or redis.call('HGET', P .. 'lua:canary:' .. SCRIPT, channel) ~= VERSION then
      return { 'INACTIVE', head[2] }
    end
  end
  return nil
end

-- cjson.decode that answers nil for text that is no JSON object.
local function decode(text)
  if not text then return nil end
  -- the embedded store drops a null from an array: nobody may decide on what is left
  if string.find(text, 'null', 1, true) then
    local bare = string.gsub(text, '\\.', '')
    bare = string.gsub(bare, '"[^"]*"', '')
    if string.find(bare, '[%[,]%s*null%s*[,%]]') then return nil end
  end
  local ok, value = pcall(cjson.decode, text)
  if ok and type(value) == 'table' then return value end
  return nil
end

-- A field of decoded JSON: cjson.null counts as absent.
local function field(t, name)
  local v = t[name]
  if v == nil or v == cjson.null then return nil end
  return v
end
