-- Notifications wait in a list for whoever sends them. The list is bounded, and
-- the less urgent ones are left out first: a flood of them never costs one that
-- is critical. A counter says how many were lost.
--
-- @keys w notification:queue    the notifications, the newest first
-- @keys w notification:dropped  how many the bounds have cost
local NOTIFICATIONS = { low = 5000, medium = 7000, high = 9000, critical = 20000 }

local function notify(message)
  local key = P .. 'notification:queue'
  local n = redis.call('LPUSH', key, cjson.encode(message))
  local most = NOTIFICATIONS[message.severity] or NOTIFICATIONS.medium
  if n <= most then return end
  if most == NOTIFICATIONS.critical then
    redis.call('LTRIM', key, 0, most - 1)
    redis.call('INCRBY', P .. 'notification:dropped', n - most)
  else
    redis.call('LPOP', key)
    redis.call('INCR', P .. 'notification:dropped')
  end
end
