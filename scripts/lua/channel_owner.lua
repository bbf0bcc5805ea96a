-- channel_owner: one engine at a time polls and writes a channel
-- @version 1.0.0
-- @include base
--
--   acquire <now> <generation> <channel> <engine> <ttl ms>
--   renew   <now> <generation> <channel> <engine> <epoch> <ttl ms> [<field> <value> …]
--   release <now> <generation> <channel> <engine> <epoch>
-- acquire answers OK and the epoch, or HELD and the owner. The epoch grows with
-- every owner and is never below the time in ms, so that it grows even when the
-- data was lost. renew extends the lease and stores the fields in the channel's
-- status; an epoch that is not the last one answers FENCED. release gives the
-- lease back. GENERATION and INACTIVE as everywhere.
local op, channel, engine = ARGV[1], ARGV[4], ARGV[5]
local refusal = guard(ARGV[3])
if refusal then return refusal end
local now = now_ms(ARGV[2])
local owner, fence = P .. 'comsrv:' .. channel .. ':owner', P .. 'comsrv:' .. channel .. ':fence'
local epoch = redis.call('HGET', fence, 'epoch')

if op == 'acquire' then
  local held = redis.call('GET', owner)
  if held and string.match(held, '^([^:]*):') ~= engine then return { 'HELD', held } end
  local next_epoch = string.format('%.0f', math.max((tonumber(epoch or '0') or 0) + 1, tonumber(now)))
  redis.call('HSET', fence, 'epoch', next_epoch, 'batch', '0')
  redis.call('SET', owner, engine .. ':' .. next_epoch, 'PX', ARGV[6])
  return { 'OK', next_epoch }
end

if epoch ~= ARGV[6] then return { 'FENCED', epoch or '' } end
if op == 'renew' then
  redis.call('SET', owner, engine .. ':' .. epoch, 'PX', ARGV[7])
  if #ARGV > 8 then redis.call('HSET', P .. 'comsrv:' .. channel .. ':status', unpack(ARGV, 8)) end
  return { 'OK', epoch }
end
if op == 'release' then
  redis.call('DEL', owner)
  redis.call('HSET', fence, 'epoch', string.format('%.0f', tonumber(epoch) + 1)) -- what is still under way comes too late
  if #ARGV > 7 then redis.call('HSET', P .. 'comsrv:' .. channel .. ':status', unpack(ARGV, 7)) end
  return { 'OK', epoch }
end
return { 'INVALID', 'unknown operation "' .. tostring(op) .. '"' }
