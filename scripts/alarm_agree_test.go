package scripts_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/voltageems/voltage/scripts"
	"github.com/voltageems/voltage/scripts/storetest"
)

// What the engine takes for an alarm rule, the scripts take for one, and nothing
// else: a rule that one alone knows would be judged now and then, or never, and
// nobody would say so.
func TestAlarmRulesAreTheSameToAll(t *testing.T) {
	t.Parallel()
	text, err := scripts.Dump("alarm_check")
	require.NoError(t, err)
	type rule struct {
		model, point, id, text string
		good                   bool
	}
	rules := []rule{
		{"rule", "p", "r", `{"operator":">","threshold":1}`, false},
		{"m", "p", "we:ird", `{"operator":">","threshold":1}`, false},
		{"m", "p", "pi|pe", `{"operator":">","threshold":1}`, false},
		{"m", "p", "", `{"operator":">","threshold":1}`, false},
		{"m", "p", strings.Repeat("r", 65), `{"operator":">","threshold":1}`, false},
		{"m", "p", strings.Repeat("r", 64), `{"operator":">","threshold":1}`, true},
		{"m", "p p", "r", `{"operator":">","threshold":1}`, false},
		{"m ü", "p", "r", `{"operator":">","threshold":1}`, false},
		{"channel", "1001", "r", `{"operator":"offline"}`, true},
		{"channel", "1001", "r", `{"operator":">","threshold":1}`, false},
	}
	for more, good := range map[string]bool{
		`"latch":1`: false, `"disabled":"yes"`: false, `"disabled":0`: false, `"disabled":null`: true,
		`"severity":"urgent"`: false, `"severity":2`: false, `"severity":""`: true, `"severity":"critical"`: true,
		`"message":7`: false, `"message":null`: true, `"x":{"y":[1,null]}`: false, `"x":{"y":null}`: true, `"Severity":"urgent"`: true,
		`"message":"` + strings.Repeat("m", 500) + `"`: true, `"message":"` + strings.Repeat("m", 501) + `"`: false,
		`"high":1`: false, `"high":0.0000001`: true, `"hysteresis":-1`: false, `"hysteresis":"-0.0000001"`: true, `"reference":"x"`: false, `"reference":5`: false,
		`"on_delay_ms":2592000001`: false, `"on_delay_ms":"1.5"`: false, `"count":2`: false, `"count":51,"window_ms":5`: false, `"window_ms":5`: false,
		`"enable":{"point_name":"a","operator":"==","threshold":1}`:                      true,
		`"enable":{"point_name":"a","operator":"==","threshold":1,"model_id":""}`:        true,
		`"enable":{"point_name":"a","operator":"==","threshold":1,"model_id":"channel"}`: false,
		`"enable":{"point_name":"a","operator":"==","threshold":1,"model_id":"a:b"}`:     false,
		`"enable":{"Point_name":"a","operator":"==","threshold":1}`:                      false,
		`"enable":{"point_name":"a b","operator":"==","threshold":1}`:                    false,
		`"enable":{"point_name":"a","operator":"rate","threshold":1}`:                    false,
		`"enable":{"point_name":"a","operator":"=="}`:                                    false,
		`"enable":[]`: false,
	} {
		rules = append(rules, rule{"m", "p", "r", `{"operator":">","threshold":1,` + more + `}`, good})
	}
	for text, good := range map[string]bool{
		`{"Operator":">","threshold":1}`: false, `{"operator":">","Threshold":1}`: false, `[]`: false, `null`: false, `{`: false, `5`: false,
		`{"operator":"rate","threshold":"0.0000001"}`: false, `{"operator":"rate","threshold":"0.000001"}`: true,
		`{"operator":"deviation","threshold":1,"reference":"p"}`: false, `{"operator":"deviation","threshold":1,"reference":"m:p"}`: false,
		`{"operator":"deviation","threshold":1,"reference":"n:p"}`: true, `{"operator":"deviation","threshold":1,"reference":"rule:p"}`: false,
		`{"operator":"deviation","threshold":1,"reference":"a:b:c"}`: false, `{"operator":"deviation","threshold":1,"reference":":"}`: false,
		`{"operator":"bit_set","threshold":52}`: true, `{"operator":"bit_set","threshold":53}`: false, `{"operator":"bit_set","threshold":1.5}`: false,
		`{"operator":"out_of_range","threshold":0,"high":4,"hysteresis":2}`: true, `{"operator":"out_of_range","threshold":0,"high":4,"hysteresis":2.1}`: false,
		`{"operator":"change","on_delay_ms":1}`: false, `{"operator":"change","off_delay_ms":1}`: true, `{"operator":"offline"}`: false,
	} {
		rules = append(rules, rule{"m", "p", "r", text, good})
	}
	storetest.Each(t, func(t *testing.T, client redis.UniversalClient) {
		s := newSite(t, client)
		ctx := t.Context()
		for _, r := range rules {
			key := s.key("alarm:rules:" + r.model + ":" + r.point)
			require.NoError(t, client.HSet(ctx, key, r.id, r.text).Err())
			_, err := s.AlarmRule(ctx, r.model, r.point, r.id)
			reply, failed := client.Eval(ctx, text, []string{s.key("anchor")}, r.model, r.point, "0").StringSlice()
			require.NoError(t, failed)
			malformed := strings.Contains(fmt.Sprint(reply), "is malformed and was skipped")
			require.Equal(t, r.good, err == nil, "the engine says of %q %s: %v", r, r.text, err)
			require.Equal(t, r.good, !malformed, "the scripts say of %q %s: %v", r, r.text, reply)
			require.NoError(t, client.Del(ctx, key, s.key("alarm:state")).Err())
		}
	})
}
