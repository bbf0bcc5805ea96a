package scripts

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
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
	f.Add(`{"operator":"out_of_range","threshold":-5,"high":"60","count":3,"window_ms":60000,"latch":true}`)
	f.Add(`{"operator":"in_range","threshold":-10,"high":0}`)
	f.Add(`{"operator":"deviation","threshold":2,"reference":"a:b","on_delay_ms":"500","enable":{"point_name":"x","operator":"==","threshold":1}}`)
	f.Fuzz(func(t *testing.T, text string) {
		r, err := parseAlarmRule("m", "p", "r", text)
		if err != nil {
			return
		}
		if r.Validate() != nil {
			t.Fatalf("%q was accepted as %+v", text, r)
		}
		again, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		if back, err := parseAlarmRule("m", "p", "r", string(again)); err != nil || !reflect.DeepEqual(back, r) {
			t.Fatalf("%q became %s and %+v, %v", text, again, back, err)
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
