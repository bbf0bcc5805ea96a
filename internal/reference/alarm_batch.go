package reference

import (
	"math"
	"strings"
)

// limitsOf reads "low:high" of a range, or one number.
func limitsOf(op, limit string) (low, high float64, ok bool) {
	if !isRange(op) {
		low, ok = tonumber(limit)
		return low, 0, ok
	}
	from, to, _ := strings.Cut(limit, ":")
	low, ok = tonumber(from)
	high, also := tonumber(to)
	return low, high, ok && also
}

// alarmMoves reports whether a value in stored form may change where the rule stands.
func (r *run) alarmMoves(value string, v float64, op, limit string, hysteresis float64, met bool, memory string) bool {
	if !met {
		hysteresis = 0
	}
	t, high, ok := limitsOf(op, limit)
	if ok && !isSpecial(op) || ok && isRange(op) || isBit(op) || op == opOffline {
		if !ok {
			t = 0
		}
		is, known := alarmMeets(op, v, t, high, hysteresis)
		return !known || is != met
	}
	switch op {
	case opStale, opBad:
		return met
	case opChange:
		return memory != value
	case opRate:
		allowed, window, _ := strings.Cut(limit, ":")
		most, readable := tonumber(allowed)
		from, since, anchored := anchorOf(memory)
		if !readable || window == "" || !digits(window) || !anchored {
			return true
		}
		if since == "" {
			return v != from
		}
		return !met && math.Abs(v-from) > most*mustNumber(window)/1000
	case opDeviation:
		f := strings.Split(limit, ":")
		if len(f) != 3 {
			return true
		}
		var other float64
		var known bool
		err := protect(func() { other, known, _, _ = r.pointValue(f[1], f[2]) })
		most, readable := tonumber(f[0])
		if err != nil || !known || !readable {
			return true
		}
		return apart(v, other) > moved(most, -hysteresis) != met
	}
	return true
}

// peek reads of an entry of alarm:state what a batch looks at first.
func peek(state string) (met bool, due, quality, memory string, ok bool) {
	f := strings.Split(state, "|")
	if len(f) < 5 || f[0] != "0" && f[0] != "1" || !digits(f[1]) || !letters(f[2]) {
		return false, "", "", "", false
	}
	return f[0] == "1", f[1], f[2], f[len(f)-1], true
}

// alarmItem is what an item of the batch says, and whether its rule has to be read.
func (r *run) alarmItem(t float64, text, op, limit string, hysteresis float64, state string, known bool) (x alarmInput, look bool) {
	v, ok := tonumber(text)
	value, device := text, ""
	if !ok && text != "" {
		if quality, isQuality := qualityOf(text); isQuality {
			x = alarmInput{quality: quality}
			if !known {
				return x, aboutQuality(op)
			}
			f := strings.SplitN(state, "|", 4)
			same := len(f) == 4 && (f[0] == "0" || f[0] == "1") && digits(f[1]) && f[2] == quality
			return x, aboutQuality(op) || !same
		}
		value, device, _ = strings.Cut(text, "@")
		v, ok = tonumber(value)
		if !ok || device == "" || !digits(device) {
			return x, false
		}
	}
	if !ok {
		return alarmInput{isStored: true}, known || op == opDeviation
	}
	x = sampled(value, v)
	x.device = device
	if !known {
		return x, r.alarmMoves(value, v, op, limit, hysteresis, false, "")
	}
	met, due, quality, memory, readable := peek(state)
	if !readable || quality != "" || due != "" && mustNumber(due) <= t {
		return x, true
	}
	return x, r.alarmMoves(value, v, op, limit, hysteresis, met, memory)
}

// ruleOf reads "<model>:<point>:<rule>".
func ruleOf(name string) (model, point, rule string, ok bool) {
	model, rest, one := strings.Cut(name, ":")
	point, rule, two := strings.Cut(rest, ":")
	if !one || !two {
		return "", "", "", false
	}
	return model, point, rule, true
}

// batchAlarms checks the alarm rules of a batch. Five arguments each, from ARGV[first] on.
func (r *run) batchAlarms(now string, first, n int, report *[]string) {
	key := r.key("alarm:state")
	length, err := r.pcall("HLEN", key)
	if err != nil {
		*report = append(*report, "alarm:state: "+err.Text)
		return
	}
	seen, t := map[string]bool{}, mustNumber(now)
	for i := first; n > 0; i += chunk * 5 {
		m := min(n, chunk)
		n -= m
		var states []any
		if integer(length) > 0 {
			args := make([]string, 0, 2+m)
			args = append(args, "HMGET", key)
			for k := range m {
				args = append(args, r.arg(i+k*5))
			}
			states = r.list(args...)
		}
		for k := range m {
			at5 := i + k*5
			name := r.arg(at5)
			state, known := at(states, k)
			if seen[name] { // the same rule twice in a batch: the first may have changed the state
				state, known = r.alarmState(name)
			}
			hysteresis, _ := tonumber(r.arg(at5 + 4))
			x, look := r.alarmItem(t, r.arg(at5+1), r.arg(at5+2), r.arg(at5+3), hysteresis, state, known)
			if !look {
				continue
			}
			seen[name] = true
			model, point, rule, _ := ruleOf(name)
			if err := protect(func() { r.alarmJudge(now, model, point, rule, x, state, known, false) }); err != nil {
				*report = append(*report, alarmError(name, err))
			}
		}
	}
}
