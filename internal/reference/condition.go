package reference

import "math"

var kinds = []string{"measurement", "signal", "control", "adjustment"}

// compare is a <operator> b, on values with six decimals. known is false for
// unknown operators.
func compare(a float64, operator any, b float64) (met, known bool) {
	switch operator {
	case ">":
		return a > b, true
	case ">=":
		return a >= b, true
	case "<":
		return a < b, true
	case "<=":
		return a <= b, true
	case "==":
		return math.Abs(a-b) < 0.0000005, true
	case "!=":
		return math.Abs(a-b) >= 0.0000005, true
	}
	return false, false
}

// pointValue is the value of a model's point; ok is false when there is none, or
// its quality, which marked says was there, is not good enough to decide on.
func (r *run) pointValue(model, point string) (v float64, ok bool, quality string, marked bool) {
	base := r.prefix + "modsrv:" + model + ":"
	quality, marked = r.text("HGET", base+"quality", point)
	if marked && quality != "uncertain" && quality != "substituted" {
		return 0, false, quality, true
	}
	for _, kind := range kinds {
		if v, ok := r.text("HGET", base+kind, point); ok {
			n, ok := number(v)
			return n, ok, "", false
		}
	}
	return 0, false, "", false
}
