package scripts

import (
	"strings"
	"testing"

	"github.com/voltageems/voltage/model"
)

// What other programs write to documented keys and channels may be anything: it
// is read or refused, never a reason to fall over.

func FuzzParseUpdate(f *testing.F) {
	f.Add("active_power:1.000000,serial:a%2Cb")
	f.Add(",:,%,a:%2")
	f.Fuzz(func(t *testing.T, message string) {
		u := ParseUpdate("m", message)
		var b []byte
		for _, p := range u.Points {
			if strings.ContainsAny(p.Name, ",:") {
				t.Fatalf("name %q", p.Name)
			}
			b = appendUpdate(b, p.Name, p.Value, true)
		}
		again := ParseUpdate("m", string(b))
		if len(again.Points) != len(u.Points) && len(b) > 0 {
			t.Fatalf("%q became %q", u.Points, again.Points)
		}
		for i := range again.Points {
			if again.Points[i] != u.Points[i] {
				t.Fatalf("%q became %q", u.Points[i], again.Points[i])
			}
		}
	})
}

func FuzzParseAlarmRule(f *testing.F) {
	f.Add(`{"operator":">","threshold":"60","severity":null}`)
	f.Add(`{"operator":"==","threshold":1e300,"hysteresis":-1}`)
	f.Fuzz(func(t *testing.T, text string) {
		r, err := parseAlarmRule("m", "p", "r", text)
		if err == nil && (!r.Operator.Valid() || !model.Storable(r.Threshold) || r.Hysteresis < 0) {
			t.Fatalf("%q was accepted as %+v", text, r)
		}
	})
}

func FuzzParseRule(f *testing.F) {
	f.Add(`[{"model_id":"m","point_name":"p","operator":">","threshold":1}]`, `[{"type":"notification","message":"x"}]`)
	f.Add(`[{"key":"modsrv:m:measurement","field":"p","operator":">","threshold":"1"}]`, `[{"type":"control"}]`)
	f.Fuzz(func(t *testing.T, conditions, actions string) {
		r, err := parseRule("r", map[string]string{"conditions": conditions, "actions": actions})
		if err == nil && r.Validate() != nil {
			t.Fatalf("%q %q was accepted as %+v", conditions, actions, r)
		}
	})
}
