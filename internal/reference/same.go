package reference

import (
	"maps"
	"slices"
	"strings"
)

// Same reports whether two Redis commands are the same. Two notifications are
// when they say the same: the fields of cjson.encode have no order.
func Same(a, b []string) bool {
	if slices.Equal(a, b) {
		return true
	}
	if len(a) != 3 || len(b) != 3 || a[1] != b[1] || !strings.EqualFold(a[0], "LPUSH") || !strings.EqualFold(b[0], "LPUSH") {
		return false
	}
	x, isObject := decode(a[2], true).(object)
	y, both := decode(b[2], true).(object)
	return isObject && both && maps.EqualFunc(x, y, same)
}
