-- channel_owner: one engine at a time polls and writes a channel
-- @version 1.1.0
-- @include base
--
-- The epoch grows with every owner and is never below the time in ms, so that
-- it grows even when the data was lost.
--
-- @form acquire <now> <generation> <channel> <engine> <ttl ms>
--   Takes the channel for an engine, unless another one has it.
-- @form renew <now> <generation> <channel> <engine> <epoch> <ttl ms> [<field> <value> …]
--   Extends the lease and stores the fields in the channel's status.
-- @form release <now> <generation> <channel> <engine> <epoch> [<field> <value> …]
--   Gives the lease back; what is still under way comes too late from now on.
-- @reply OK and the epoch; HELD and the owner; FENCED and the last epoch
-- @code OK       done
-- @code HELD     (acquire) another engine has it, and its lease has not run out
-- @code FENCED   (renew, release) the epoch is not the last one: another engine has it, or had it
-- @code INVALID  there is no such operation
-- @keys rw comsrv:<channel>:owner   engine:epoch, which expires with the lease
-- @keys rw comsrv:<channel>:fence   the last epoch; a new owner begins its batches at 0
-- @keys w  comsrv:<channel>:status  the fields that the owner reports
local op, channel, engine = ARGV[1], ARGV[4], ARGV[5]
local refusal = guard(ARGV[3])
if refusal then return refusal end
local now = now_ms(ARGV[2])
local owner, fence = P .. 'comsrv:' .. channel .. ':owner', P .. 'comsrv:' .. channel .. ':fence'
local epoch = redis.call('HGET', fence, 'epoch')

if op == 'acquire' then
  local held = redis.call('GET', owner)
  if held and string.match(held, '^([^:]*):') ~= engine then return { 'HELD', held } end
  local next_epoch = string.format('%.0f', math.max((number(epoch or '0') or 0) + 1, tonumber(now)))
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
  redis.call('HSET', fence, 'epoch', string.format('%.0f', (number(epoch) or 0) + 1)) -- what is still under way comes too late
  if #ARGV > 7 then redis.call('HSET', P .. 'comsrv:' .. channel .. ':status', unpack(ARGV, 7)) end
  return { 'OK', epoch }
end
return { 'INVALID', 'unknown operation "' .. tostring(op) .. '"' }
