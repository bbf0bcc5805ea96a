-- cache_manager: answers that are kept until what they show has changed
-- @version 1.0.0
-- @include base
--
-- An answer's text is the first line of its key, what it depends on the second.
-- Names are model:<id>:values and api:<endpoint>:<params>. Whoever changes what
-- an answer shows deletes its key. What changes seldom is not deleted but
-- compared: the definitions of the site by mapping:version and, with alarms, the
-- alarms by the end of their journal.
--
-- @form get <now> <generation> <name> <definitions|alarms> <token> <lease ms>
--   The answer. Where there is none, the caller builds it and puts it; a marker
--   with the token stands in its place meanwhile, as long as the lease.
-- @form put <now> <generation> <name> <token> <ttl ms> <text>
--   Keeps an answer, JSON in one line, if the marker still stands: so one that
--   was built from older values than there are now is never kept.
-- @form drop <now> <generation> <name>
--   Forgets one answer.
-- @form clear [<now> <generation>]
--   Forgets all.
-- @reply HIT and the text; MISS and the token, which is empty for who is not to put it
-- @code OK       done
-- @code HIT      (get) it is kept, and true
-- @code MISS     (get) it is not; (put) the marker is gone: nothing is kept
-- @code INVALID  the arguments are none of the above
-- @keys rw cache:model:<id>:values          an answer, or a marker; expires
-- @keys rw cache:api:<endpoint>:<params>    the same
-- @keys rw cache:version                    changes when all answers are forgotten
-- @keys r  mapping:version                  what answers depend on
-- @keys r  alarm:journal                    what those with alarms depend on
local TEXT_MAX, TTL_MAX, LEASE_MAX, NAME_MAX = 1048576, 3600000, 60000, 200

local function between(text, low, high)
  local n = number(text)
  return n and n >= low and n <= high and n == math.floor(n)
end

local function valid_name(name)
  return name and #name <= NAME_MAX
    and (string.match(name, '^model:[%w_.-]+:values$') or string.match(name, '^api:[%w_.-]+:[%w_.=&-]+$'))
end

local op, name = ARGV[1], ARGV[4]
local refusal = guard(ARGV[3] or '')
if refusal then return refusal end

if op == 'clear' then -- every answer depends on this number, and ends by itself soon
  local r = redis.pcall('INCR', P .. 'cache:version')
  if type(r) == 'table' and r.err then redis.call('SET', P .. 'cache:version', now_ms(ARGV[2])) end
  return { 'OK' }
end

if not valid_name(name) then return { 'INVALID', 'name: want model:<id>:values or api:<endpoint>:<params>' } end
local key = P .. 'cache:' .. name

if op == 'drop' then
  redis.call('DEL', key)
  return { 'OK' }
end

local token = ARGV[op == 'get' and 6 or 5]
if not token or #token > 64 or not string.match(token, '^[%w-]+$') then
  return { 'INVALID', 'token: want letters, digits and hyphens' }
end
local marker = '?' .. token .. '\n'

if op == 'get' then
  local depends = ARGV[5]
  if depends ~= 'definitions' and depends ~= 'alarms' then return { 'INVALID', 'want definitions or alarms' } end
  if not between(ARGV[7], 1, LEASE_MAX) then return { 'INVALID', 'lease: want 1 to 60000 ms' } end
  -- MGET takes a key of a foreign type for none, where GET fails
  local found = redis.call('MGET', key, P .. 'mapping:version', P .. 'cache:version')
  local kept, state = found[1], (found[2] or '') .. ' ' .. (found[3] or '')
  if depends == 'alarms' then
    local last = redis.pcall('XREVRANGE', P .. 'alarm:journal', '+', '-', 'COUNT', 1)
    if last.err then return { 'MISS', '' } end -- nobody knows when the alarms change
    state = state .. ' ' .. (last[1] and last[1][1] or '')
  end
  if kept and string.sub(kept, 1, 1) == '?' then
    if string.sub(kept, 1, #marker) == marker then return { 'MISS', token } end
    return { 'MISS', '' }
  end
  local tail = '\n' .. state
  if kept and string.sub(kept, -#tail) == tail then return { 'HIT', string.sub(kept, 1, -#tail - 1) } end
  redis.call('SET', key, marker .. state, 'PX', ARGV[7])
  return { 'MISS', token }
end

if op == 'put' then
  local text = ARGV[7]
  if not between(ARGV[6], 1, TTL_MAX) then return { 'INVALID', 'ttl: want 1 to 3600000 ms' } end
  if not text or #text > TEXT_MAX or string.find(text, '\n', 1, true) or string.sub(text, 1, 1) == '?' then
    return { 'INVALID', 'text: want JSON in one line of at most 1048576 bytes' }
  end
  local kept = redis.call('MGET', key)[1]
  if not kept or string.sub(kept, 1, #marker) ~= marker then return { 'MISS', '' } end
  redis.call('SET', key, text .. string.sub(kept, #marker), 'PX', ARGV[6]) -- with the marker's line end and second line
  return { 'OK' }
end

return { 'INVALID', 'unknown operation "' .. tostring(op) .. '"' }
