package scripts

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strconv"
	"time"

	"github.com/voltageems/voltage/model"
)

// parseAlarmRule reads a stored rule as any program may have written it: ids
// come from the key, and numbers may be texts. They have six decimals, as in the
// script, which refuses the same.
func parseAlarmRule(modelID, point, id, text string) (model.AlarmRule, error) {
	bad := func(err error) (model.AlarmRule, error) {
		return model.AlarmRule{}, fmt.Errorf("%w: alarm rule %.64q of %s:%s: %w", model.ErrInvalid, id, modelID, point, err)
	}
	var stored struct {
		Operator   model.Operator `json:"operator"`
		Threshold  looseNumber    `json:"threshold"`
		High       looseNumber    `json:"high"`
		Reference  string         `json:"reference"`
		Hysteresis looseNumber    `json:"hysteresis"`
		OnDelay    looseNumber    `json:"on_delay_ms"`
		OffDelay   looseNumber    `json:"off_delay_ms"`
		Window     looseNumber    `json:"window_ms"`
		Count      looseNumber    `json:"count"`
		Latch      bool           `json:"latch"`
		Enable     *struct {
			Model     string         `json:"model_id"`
			Point     string         `json:"point_name"`
			Operator  model.Operator `json:"operator"`
			Threshold looseNumber    `json:"threshold"`
		} `json:"enable"`
		Severity model.Severity `json:"severity"`
		Message  string         `json:"message"`
		Disabled bool           `json:"disabled"`
	}
	b, err := exactFields([]byte(text), &stored)
	if err != nil {
		return bad(err)
	}
	if err := json.Unmarshal(b, &stored); err != nil {
		return bad(err)
	}
	r := model.AlarmRule{
		ID: id, Model: modelID, Point: point, Operator: stored.Operator, Hysteresis: stored.Hysteresis.rounded(), Latch: stored.Latch,
		Severity: stored.Severity, Message: stored.Message, Disabled: stored.Disabled,
		Threshold: stored.Threshold.rounded(), High: stored.High.rounded(), Reference: stored.Reference,
	}
	if r.Operator.TakesThreshold() && !stored.Threshold.given {
		return bad(errMissing("threshold"))
	}
	count, err := stored.Count.whole("count", model.MaxAlarmCount)
	if err != nil {
		return bad(err)
	}
	r.Count = int(count)
	for _, d := range []struct {
		name string
		from looseNumber
		to   *time.Duration
	}{{"on_delay_ms", stored.OnDelay, &r.OnDelay}, {"off_delay_ms", stored.OffDelay, &r.OffDelay}, {"window_ms", stored.Window, &r.Window}} {
		ms, err := d.from.whole(d.name, model.MaxAlarmDelay.Milliseconds())
		if err != nil {
			return bad(err)
		}
		*d.to = time.Duration(ms) * time.Millisecond
	}
	if e := stored.Enable; e != nil {
		if !e.Threshold.given {
			return bad(errMissing("threshold of enable"))
		}
		r.Enable = &model.AlarmEnable{Model: e.Model, Point: e.Point, Operator: e.Operator, Threshold: e.Threshold.rounded()}
	}
	delay := r.OnDelay
	if r.Operator == model.IsOffline && !stored.OnDelay.given {
		delay = model.DefaultOfflineDelay
	}
	r = r.WithDefaults()
	r.OnDelay = delay // which may be none by the rule's own word
	return r, r.Validate()
}

// writerAlarm is an alarm rule as an item of a batch names it. It lets the script
// tell whether a value may change anything; what then happens, the rule that is
// stored says.
type writerAlarm struct {
	name, operator, threshold, hysteresis string // name is "model:point:rule"

	quality bool // it looks at the quality, not at the value
}

func newWriterAlarm(r model.AlarmRule) writerAlarm {
	a := writerAlarm{
		name: r.Model + ":" + r.Point + ":" + r.ID, operator: string(r.Operator), threshold: model.FormatValue(r.Threshold), hysteresis: model.FormatValue(r.Hysteresis),
		quality: r.Operator == model.IsStale || r.Operator == model.BadQuality,
	}
	switch r.Operator {
	case model.InRange, model.OutOfRange:
		a.threshold += ":" + model.FormatValue(r.High)
	case model.Deviation:
		a.threshold += ":" + r.ReferencePoint().String()
	case model.Rate:
		a.threshold += ":" + strconv.FormatInt(r.Window.Milliseconds(), 10)
	default:
		if !r.Operator.TakesThreshold() {
			a.threshold = "0"
		}
	}
	return a
}

func errMissing(field string) error { return fmt.Errorf("no %s", field) }

// looseNumber is a JSON number, or a text with a number in it.
type looseNumber struct {
	value float64
	given bool
}

// looseText is what the scripts take for a number in a text.
var looseText = regexp.MustCompile(`^[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)$`)

// UnmarshalJSON implements json.Unmarshaler.
func (n *looseNumber) UnmarshalJSON(b []byte) error {
	if string(b) == "null" {
		return nil
	}
	s := string(b)
	if s[0] == '"' {
		if err := json.Unmarshal(b, &s); err != nil {
			return err
		}
		if len(s) > 40 || !looseText.MatchString(s) {
			return fmt.Errorf("%.40q is not a number", s)
		}
	}
	v, err := strconv.ParseFloat(s, 64)
	if err != nil {
		return fmt.Errorf("%.40q is not a number", s)
	}
	n.value, n.given = v, true
	return nil
}

// rounded returns the number with the six decimals that the scripts see. What
// cannot be stored stays as it is.
func (n looseNumber) rounded() float64 {
	if !model.Storable(n.value) {
		return n.value
	}
	v, _ := strconv.ParseFloat(model.FormatValue(n.value), 64) // it is a number
	return v
}

// whole returns the number where it is whole and within 0 to limit.
func (n looseNumber) whole(field string, limit int64) (int64, error) {
	v := n.rounded()
	if !(v >= 0 && v <= float64(limit)) || v != float64(int64(v)) {
		return 0, fmt.Errorf("%s %v: want a whole number from 0 to %d", field, n.value, limit)
	}
	return int64(v), nil
}
