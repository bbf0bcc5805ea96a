-- Notifications wait in a list for whoever sends them. The list is capped: at
-- the cap the oldest go, and a counter says how many.
--
-- @keys w notification:queue    the notifications, the newest first
-- @keys w notification:dropped  how many the cap has cost
local NOTIFICATIONS = 10000

local function notify(message)
  local key = P .. 'notification:queue'
  local n = redis.call('LPUSH', key, cjson.encode(message))
  if n > NOTIFICATIONS then
    redis.call('LTRIM', key, 0, NOTIFICATIONS - 1)
    redis.call('INCRBY', P .. 'notification:dropped', n - NOTIFICATIONS)
  end
end
