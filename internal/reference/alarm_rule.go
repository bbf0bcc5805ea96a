package reference

import (
	"math"
	"strconv"
	"strings"
)

const (
	alarmLongest   = 2592000000 // ms of a delay or window: 30 days
	rateWindow     = 1000       // ms, where a rule of operator rate has none
	offlineDelay   = 10000      // ms, where a rule of operator offline has none
	highestBit     = 52
	longestID      = 64
	longestMessage = 500 // bytes
	mostCount      = 50
	opIn, opOut    = "in_range", "out_of_range"
	opSet, opNot   = "bit_set", "bit_clear"
	opDeviation    = "deviation"
	opRate         = "rate"
	opChange       = "change"
	opStale        = "stale"
	opBad          = "bad_quality"
	opOffline      = "offline"
	offline        = "offline" // the quality, and the state of a channel
	modelChannel   = "channel"
	modelRule      = "rule"
	severityUnset  = "medium"
)

func isRange(op string) bool      { return op == opIn || op == opOut }
func isBit(op string) bool        { return op == opSet || op == opNot }
func aboutQuality(op string) bool { return op == opStale || op == opBad }

// isSpecial: an operator that is no comparison.
func isSpecial(op string) bool {
	return isRange(op) || isBit(op) || aboutQuality(op) || op == opDeviation || op == opRate || op == opChange || op == opOffline
}

func isComparison(op any) bool {
	_, known := compare(0, op, 0)
	return known
}

// alarmRule is a stored rule.
type alarmRule struct {
	op                                  string
	disabled, latch                     bool
	threshold, high, hysteresis         float64
	onDelay, offDelay, window, count    float64
	enable                              *alarmEnable // nil: always
	referenceModel, reference, severity string
	message                             string
}

type alarmEnable struct {
	model, point, operator string
	threshold              float64
}

// ruleNumber is a number of a rule: missing where there is none; ok is false
// where it cannot be read.
func ruleNumber(d any, name string, missing float64) (float64, bool) {
	v := field(d, name)
	if v == nil {
		return missing, true
	}
	n, ok := numberOf(v)
	return mustNumber(stored(n)), ok
}

func ruleWhole(d any, name string, missing, most float64) (float64, bool) {
	v, ok := ruleNumber(d, name, missing)
	return v, ok && v >= 0 && v <= most && v == math.Floor(v)
}

// rulePoint reads "model:point", or a point of the same model.
func rulePoint(v any, model string) (owner, point string, ok bool) {
	text, _ := v.(string)
	owner, point, ok = pair(text)
	if !ok {
		owner, point = model, text
	}
	return owner, point, hasPoints(owner) && validID(point)
}

// ruleEnable reads the condition under which a rule counts: nil for always.
func ruleEnable(d any, model string) (e *alarmEnable, ok bool) {
	v := field(d, "enable")
	if v == nil {
		return nil, true
	}
	owner := field(v, "model_id")
	if owner == nil || owner == "" {
		owner = model
	}
	name, _ := owner.(string)
	point, _ := field(v, "point_name").(string)
	threshold, given := numberOf(field(v, "threshold"))
	operator, _ := field(v, "operator").(string)
	if !table(v) || !hasPoints(name) || !validID(point) || !given || !isComparison(operator) {
		return nil, false
	}
	return &alarmEnable{name, point, operator, threshold}, true
}

func validID(s string) bool {
	return s != "" && len(s) <= longestID && strings.Trim(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-") == ""
}

func hasPoints(id string) bool { return validID(id) && id != modelChannel && id != modelRule }

func isSeverity(s string) bool {
	return s == "low" || s == severityUnset || s == "high" || s == "critical"
}

// readAlarmRule reads a stored rule, nil where it is malformed.
func readAlarmRule(text string, given bool, model, point, rule string) *alarmRule {
	if model == modelRule || !validID(model) || !validID(point) || !validID(rule) {
		return nil
	}
	d := decode(text, given)
	op, _ := field(d, "operator").(string)
	if !isComparison(op) && !isSpecial(op) {
		return nil
	}
	r := &alarmRule{op: op, disabled: field(d, "disabled") == true, latch: field(d, "latch") == true}
	ok, missing := true, math.NaN() // no threshold
	take := func(v float64, read bool) float64 {
		ok = ok && read
		return v
	}
	if op == opChange || aboutQuality(op) || op == opOffline {
		missing = 0
	}
	delay := 0.0
	if op == opOffline {
		delay = offlineDelay
	}
	r.threshold = take(ruleNumber(d, "threshold", missing))
	r.high = take(ruleNumber(d, "high", 0))
	r.hysteresis = take(ruleNumber(d, "hysteresis", 0))
	r.onDelay = take(ruleWhole(d, "on_delay_ms", delay, alarmLongest))
	r.offDelay = take(ruleWhole(d, "off_delay_ms", 0, alarmLongest))
	r.window = take(ruleWhole(d, "window_ms", 0, alarmLongest))
	r.count = take(ruleWhole(d, "count", 0, mostCount))
	enable, read := ruleEnable(d, model)
	r.enable = enable
	if !ok || !read || math.IsNaN(r.threshold) {
		return nil
	}
	latch := field(d, "latch")
	if _, isBool := latch.(bool); latch != nil && !isBool {
		return nil
	}
	disabled := field(d, "disabled")
	if _, isBool := disabled.(bool); disabled != nil && !isBool {
		return nil
	}
	if !r.possible(d, model, point) || !r.timed() || !r.words(d) {
		return nil
	}
	return r
}

// words reads what is for people.
func (r *alarmRule) words(d any) bool {
	r.severity, r.message = severityUnset, ""
	severity, message := field(d, "severity"), field(d, "message")
	if severity != nil && severity != "" {
		text, _ := severity.(string)
		if r.severity = text; !isSeverity(text) {
			return false
		}
	}
	if message != nil {
		text, ok := message.(string)
		if r.message = text; !ok || len(text) > longestMessage {
			return false
		}
	}
	return true
}

// possible reports whether the condition is one that there can be.
func (r *alarmRule) possible(d any, model, point string) bool {
	t, h := r.threshold, r.hysteresis
	if h < 0 || (r.op == opOffline) != (model == modelChannel) {
		return false
	}
	if isRange(r.op) {
		if r.high < t || r.op == opOut && 2*h > r.high-t {
			return false
		}
	} else if r.high != 0 {
		return false
	}
	if isBit(r.op) && (t < 0 || t > highestBit || t != math.Floor(t)) {
		return false
	}
	if r.op == opDeviation && t < 0 || r.op == opRate && t <= 0 || (r.op == opDeviation || r.op == opRate) && h > t {
		return false
	}
	reference := field(d, "reference")
	if r.op == opDeviation {
		var ok bool
		r.referenceModel, r.reference, ok = rulePoint(reference, model)
		return ok && (r.referenceModel != model || r.reference != point)
	}
	return reference == nil || reference == ""
}

// timed reports whether delays, window and count go together.
func (r *alarmRule) timed() bool {
	switch {
	case r.count > 1:
		if r.window == 0 || r.onDelay > 0 || r.offDelay > 0 || r.op == opRate {
			return false
		}
	case r.op == opRate:
		if r.window == 0 {
			r.window = rateWindow
		}
	case r.window > 0:
		return false
	}
	return r.op != opChange || r.onDelay == 0
}

// alarmText is what the message of an alarm is where its rule has none.
func alarmText(r *alarmRule, model, point, value, quality string) string {
	what, t := model+"."+point, stored(r.threshold)
	if r.op == opOffline {
		return "channel " + point + " is offline"
	}
	if aboutQuality(r.op) {
		return what + " is " + quality
	}
	what += " = " + value
	switch r.op {
	case opIn, opOut:
		return what + " " + r.op + " " + t + ".." + stored(r.high)
	case opDeviation:
		return what + " is more than " + t + " away from " + r.referenceModel + "." + r.reference
	case opRate:
		return what + " changes by more than " + t + " a second"
	case opChange:
		return what + " has changed"
	case opSet:
		return what + " has bit " + whole(r.threshold) + " set"
	case opNot:
		return what + " has bit " + whole(r.threshold) + " clear"
	}
	return what + " " + r.op + " " + t
}

// moved is a limit moved by the hysteresis, with six decimals as values have.
func moved(limit, by float64) float64 {
	if by == 0 {
		return limit
	}
	return mustNumber(stored(limit + by))
}

// alarmMeets is whether a value meets a condition that needs nothing else. known
// is false for other operators, and for a value that has no bits.
func alarmMeets(op string, v, t, high, h float64) (met, known bool) {
	switch op {
	case ">", ">=":
		return compare(v, op, moved(t, -h))
	case "<", "<=":
		return compare(v, op, moved(t, h))
	case "==", "!=":
		return compare(v, op, t)
	case opOut:
		return v < moved(t, h) || v > moved(high, -h), true
	case opIn:
		return v >= moved(t, -h) && v <= moved(high, h), true
	case opSet, opNot:
		if v < 0 {
			return false, false
		}
		return (math.Mod(math.Floor(v/math.Pow(2, t)), 2) == 1) == (op == opSet), true
	case opOffline:
		return v != 0, true
	}
	return false, false
}

// apart is how far two values are apart, with six decimals.
func apart(a, b float64) float64 { return mustNumber(stored(math.Abs(a - b))) }

// alarmInput is what a rule is judged by.
type alarmInput struct {
	value    string // in stored form, "" without one
	number   float64
	usable   bool   // there is a number
	device   string // the device's time, "" without one
	quality  string // what is wrong with the point
	unknown  bool   // nobody has written the point yet
	isStored bool   // no sample: to be read from the store
}

func sampled(value string, v float64) alarmInput {
	return alarmInput{value: value, number: v, usable: true}
}

// alarmInput reads what a rule is judged by when no sample is at hand.
func (r *run) alarmInput(model, point string) alarmInput {
	if model == modelChannel {
		state, _ := r.text("HGET", r.key("comsrv:", point, ":status"), "state")
		owned := r.integer("EXISTS", r.key("comsrv:", point, ":owner")) != 0
		switch {
		case !owned || state == offline || state == "stopped":
			return sampled("1.000000", 1)
		case state == "online":
			return sampled("0.000000", 0)
		}
		return alarmInput{quality: "uncertain"} // connecting: nobody knows yet
	}
	v, ok, quality, marked := r.pointValue(model, point)
	if ok {
		return sampled(stored(v), v)
	}
	if !marked {
		if _, ok := r.text("HGET", r.key("modsrv:", model, ":text"), point); ok {
			return alarmInput{} // usable, and nothing to compare
		}
		quality = "bad"
	}
	return alarmInput{quality: quality, unknown: !marked}
}

// alarmGrouped reports whether the quality of a point is its channel's fault, and
// the channel has an alarm of its own.
func (r *run) alarmGrouped(model, point string) bool {
	bound, _ := r.text("HGET", r.key("model:", model), "binding:"+point)
	kind, source, _ := strings.Cut(bound, ":")
	channel, _, ok := pair(source)
	if !ok || kind == "" || !letters(kind) {
		return false
	}
	for _, text := range r.list("HVALS", r.key("alarm:rules:channel:", channel)) {
		s, _ := text.(string)
		if rule := readAlarmRule(s, true, modelChannel, channel, "any"); rule != nil && !rule.disabled {
			return true
		}
	}
	return false
}

// anchorOf reads "value:time" of a rule of operator rate.
func anchorOf(text string) (from float64, since string, ok bool) {
	value, since, ok := strings.Cut(text, ":")
	if !ok || value == "" || !digits(since) {
		return 0, "", false
	}
	from, ok = tonumber(value)
	return from, since, ok
}

// alarmRate judges a rate of change by an anchor that is moved on once a window.
// known is false for as before; due is when to look again, 0 for never.
func alarmRate(r *alarmRule, v, now float64, met bool, anchor string) (fast, known bool, next string, due float64) {
	from, at, ok := anchorOf(anchor)
	if !ok {
		return false, false, stored(v) + ":" + rounded(now), now + r.window
	}
	since := now // it stood still until now
	if at == "" {
		if v == from {
			return false, true, anchor, 0
		}
	} else {
		since = mustNumber(at)
	}
	by := math.Abs(v - from)
	if now < since+r.window {
		fast := by > r.threshold*r.window/1000
		return fast, fast, stored(from) + ":" + rounded(since), since + r.window
	}
	limit := r.threshold
	if met {
		limit -= r.hysteresis
	}
	fast = by*1000/(now-since) > limit
	if v == from {
		return fast, true, stored(v) + ":", 0
	}
	return fast, true, stored(v) + ":" + strconv.FormatFloat(now, 'f', 0, 64), now + r.window
}
