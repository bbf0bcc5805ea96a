package reference

import "strconv"

// notifications is how many wait at most; the oldest go.
const notifications = 10000

func (r *run) notify(message map[string]string) {
	key := r.key("notification:queue")
	n := r.integer("LPUSH", key, encode(message))
	if n > notifications {
		r.call("LTRIM", key, "0", strconv.Itoa(notifications-1))
		r.call("INCRBY", r.key("notification:dropped"), strconv.FormatInt(n-notifications, 10))
	}
}
