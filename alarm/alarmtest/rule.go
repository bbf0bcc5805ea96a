package alarmtest

import (
	"errors"
	"fmt"
	"strconv"

	"github.com/voltageems/voltage/model"
)

// rule reads ID MODEL:POINT OPERATOR [LIMIT [HIGH]] [KEY VALUE] …, or ID
// MODEL:POINT json TEXT.
func (p *parser) rule(args []word) (e ruleEvent, err error) {
	if len(args) < 3 {
		return e, errors.New("want rule ID MODEL:POINT OPERATOR [LIMIT [HIGH]] [KEY VALUE] …")
	}
	at, err := model.ParseRef(args[1].text)
	if err != nil {
		return e, fmt.Errorf("%.80q: want MODEL:POINT", args[1].text)
	}
	r := model.AlarmRule{ID: args[0].text, Model: at.Owner, Point: at.Name, Operator: model.Operator(args[2].text)}
	if at.Owner != model.AlarmModelChannel {
		p.test.points[at] = true
	}
	if args[2].text == "json" {
		if len(args) != 4 {
			return e, errors.New("want json TEXT")
		}
		return ruleEvent{rule: r, text: args[3].text}, model.CheckID("alarm rule", r.ID)
	}
	w := words(args[3:])
	if r.Operator.TakesThreshold() {
		if r.Threshold, err = w.number("a limit"); err != nil {
			return e, err
		}
	}
	if r.Operator == model.InRange || r.Operator == model.OutOfRange {
		if r.High, err = w.number("an upper limit"); err != nil {
			return e, err
		}
	}
	for len(w) > 0 {
		if err := p.ruleKey(&r, &w); err != nil {
			return e, err
		}
	}
	return ruleEvent{rule: r}, r.Validate()
}

func (p *parser) ruleKey(r *model.AlarmRule, w *words) (err error) {
	key := w.next()
	switch key {
	case "latch":
		r.Latch = true
	case "disabled":
		r.Disabled = true
	case "hysteresis":
		r.Hysteresis, err = w.number(key)
	case "on_delay", "off_delay", "window":
		d, err := duration(w.next())
		if err != nil {
			return fmt.Errorf("%s: %w", key, err)
		}
		switch key {
		case "on_delay":
			r.OnDelay = d
		case "off_delay":
			r.OffDelay = d
		default:
			r.Window = d
		}
	case "count":
		n, err := strconv.Atoi(w.next())
		if err != nil {
			return errors.New("count: want a whole number")
		}
		r.Count = n
	case "reference":
		r.Reference = w.next()
		p.test.points[r.ReferencePoint()] = true
	case "enable": // [MODEL:]POINT OPERATOR LIMIT
		e := &model.AlarmEnable{Point: w.next()}
		if ref, err := model.ParseRef(e.Point); err == nil {
			e.Model, e.Point = ref.Owner, ref.Name
		}
		e.Operator = model.Operator(w.next())
		e.Threshold, err = w.number("enable")
		r.Enable = e
		p.test.points[r.EnablePoint()] = true
	case "severity":
		r.Severity = model.Severity(w.next())
	case "message":
		r.Message = w.next()
	default:
		return fmt.Errorf("%q: want one of hysteresis, on_delay, off_delay, count, window, reference, enable, severity, message, latch, disabled", key)
	}
	return err
}

// words are what is left of a line.
type words []word

// next takes the first word; "" where there is none.
func (w *words) next() string {
	if len(*w) == 0 {
		return ""
	}
	text := (*w)[0].text
	*w = (*w)[1:]
	return text
}

func (w *words) number(what string) (float64, error) {
	text := w.next()
	v, err := strconv.ParseFloat(text, 64)
	if err != nil {
		return 0, fmt.Errorf("%s: %.40q is no number", what, text)
	}
	return v, nil
}
