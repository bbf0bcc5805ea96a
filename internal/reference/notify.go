package reference

import "strconv"

// notifications is how many wait at most before one of a severity is left out. Of
// critical ones the oldest go.
var notifications = map[string]int64{"low": 5000, "medium": 7000, "high": 9000, "critical": 20000}

func (r *run) notify(severity string, message map[string]string) {
	key := r.key("notification:queue")
	n := r.integer("LPUSH", key, encode(message))
	most, ok := notifications[severity]
	if !ok {
		most = notifications[severityUnset]
	}
	switch {
	case n <= most:
	case most == notifications["critical"]:
		r.call("LTRIM", key, "0", strconv.FormatInt(most-1, 10))
		r.call("INCRBY", r.key("notification:dropped"), strconv.FormatInt(n-most, 10))
	default:
		r.call("LPOP", key)
		r.call("INCR", r.key("notification:dropped"))
	}
}
