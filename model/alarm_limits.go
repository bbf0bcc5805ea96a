package model

import "fmt"

// AlarmLimits are the usual limits around a value: Hi and Lo ask for attention,
// HiHi and LoLo say that it is urgent. Each that is given makes an alarm rule of
// its own; nil is none.
type AlarmLimits struct {
	HiHi *float64 `yaml:"hihi"`
	Hi   *float64 `yaml:"hi"`
	Lo   *float64 `yaml:"lo"`
	LoLo *float64 `yaml:"lolo"`
}

// alarmLimit is one of AlarmLimits.
type alarmLimit struct {
	name     string
	operator Operator
	severity Severity // empty is that of the base
	value    *float64
}

// list returns the limits from the highest to the lowest.
func (l AlarmLimits) list() []alarmLimit {
	return []alarmLimit{{"hihi", Above, Critical, l.HiHi}, {"hi", Above, "", l.Hi}, {"lo", Below, "", l.Lo}, {"lolo", Below, Critical, l.LoLo}}
}

// Validate returns an ErrInvalid that names the limit: one or more are given, in
// descending order from HiHi to LoLo.
func (l AlarmLimits) Validate() error {
	var above alarmLimit
	for _, at := range l.list() {
		switch {
		case at.value == nil:
			continue
		case !Storable(*at.value):
			return fmt.Errorf("%w: limits: %s %v: not a number that can be stored", ErrInvalid, at.name, *at.value)
		case above.value != nil && *at.value >= *above.value:
			return fmt.Errorf("%w: limits: %s %v: is not below %s %v", ErrInvalid, at.name, *at.value, above.name, *above.value)
		}
		above = at
	}
	if above.value == nil {
		return fmt.Errorf("%w: limits: want one or more of hihi, hi, lo, lolo", ErrInvalid)
	}
	return nil
}

// Rules returns the rules that the limits make of base, with _hihi, _hi, _lo and
// _lolo behind its ID. Hi and Lo have the severity of base, High where that has
// none; HiHi and LoLo are Critical. All else is as in base.
func (l AlarmLimits) Rules(base AlarmRule) []AlarmRule {
	if base.Severity == "" {
		base.Severity = High
	}
	var rules []AlarmRule
	for _, at := range l.list() {
		if at.value == nil {
			continue
		}
		r := base
		r.ID, r.Operator, r.Threshold = base.ID+"_"+at.name, at.operator, *at.value
		if at.severity != "" {
			r.Severity = at.severity
		}
		if base.Enable != nil {
			r.Enable = new(*base.Enable)
		}
		rules = append(rules, r)
	}
	return rules
}
