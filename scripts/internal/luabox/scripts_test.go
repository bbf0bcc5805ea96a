package luabox_test

import (
	"context"
	"fmt"
	"regexp"
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/voltageems/voltage/scripts"
	"github.com/voltageems/voltage/scripts/internal/luabox"
	"github.com/voltageems/voltage/scripts/storetest"
)

// step is one call of a script. No reply shows the order of hash fields, which is
// another in every store.
type step struct {
	script string
	args   []string
}

// steps are typical calls of every script, in an order in which each finds what
// it needs. The channel's epoch and the mapping version are those of the first
// calls on empty data.
var steps = []step{
	{"site_config", []string{"points", "1000", "", "1001", "10001", `{"kind":"measurement","unit":"kW"}`, "20001", `{"kind":"control","min":0,"max":100,"step":0.5}`}},
	{"site_config", []string{"model", "1000", "", "pcs1", `{"name":"PCS 1"}`, "1", "measurement", "power", "1001:10001", "control", "setpoint", "1001:20001"}},
	{"site_config", []string{"model", "1000", "", "pcs1", `{"name":"PCS 1"}`, "1", "measurement", "power", "1001:10001", "control", "setpoint", "1001:20001"}},
	{"site_config", []string{"alarm_rule", "1000", "", "pcs1", "other", "bad", `{"operator":"~"}`}},
	{"site_config", []string{"alarm_rule", "1000", "", "pcs1", "power", "high", `{"operator":">","threshold":90,"hysteresis":5,"severity":"high","message":"too much"}`}},
	{"site_config", []string{"rule", "1000", "", "r1", "limit", "0", `[{"model_id":"pcs1","point_name":"power","operator":">","threshold":95}]`,
		`[{"type":"control","model_id":"pcs1","control_name":"setpoint","value":50},{"type":"alarm","message":"rule"},{"type":"notification"},{"type":"nothing"},7]`, "pcs1:power"}},
	{"site_config", []string{"touch", "1000", "", "pcs1:power", "r1"}},
	{"site_config", []string{"nothing", "1000", ""}},
	{"channel_owner", []string{"acquire", "1700000000000", "", "1001", "engine", "60000"}},
	{"channel_owner", []string{"acquire", "1700000000001", "", "1001", "other", "60000"}},
	{"channel_owner", []string{"renew", "1700000000002", "", "1001", "engine", "1700000000000", "60000", "state", "running"}},
	{"data_sync", []string{"c2m", "1001", "10001", "25.123456", "1700000000003"}},
	{"data_sync", []string{"c2m", "1001", "10001", "99", "1700000000004"}},
	{"data_sync", []string{"c2m", "1001", "10001", "99.5", "1700000000005"}},
	{"data_sync", []string{"c2m", "1001", "10001", "1", "1700000000006"}},
	{"data_sync", []string{"c2m", "1001", "7", "-0.0000001", "1700000000007"}},
	{"data_sync", []string{"c2m", "1001", "7", "nan"}},
	{"data_sync", []string{"c2m"}},
	{"data_sync", []string{"m2c", "pcs1", "setpoint", "50", "1700000000008"}},
	{"data_sync", []string{"m2c", "pcs1", "setpoint", "50.25", "1700000000009"}},
	{"data_sync", []string{"m2c", "pcs1", "setpoint", "500", "1700000000010"}},
	{"data_sync", []string{"m2c", "nobody", "setpoint", "50", "1700000000011"}},
	{"data_sync", []string{"m2c", "pcs1", "power", "50", "1700000000012"}},
	{"data_sync", []string{"batch", "1700000000013", "", "2", "1001", "1699999999999", "1", "0"}},
	{"data_sync", []string{"batch", "1700000000013", "", "nothing", "1001", "1700000000000", "1", "0"}},
	{"data_sync", []string{"batch", "1700000000013", "lost", "nothing", "1001", "1700000000000", "1", "0"}},
	{"data_sync", []string{"whatever"}},
	{"alarm_check", []string{"pcs1", "power", "91", "1700000000014"}},
	{"alarm_check", []string{"pcs1", "other", "91", "1700000000014"}},
	{"alarm_check", []string{"pcs1", "power", "x", "1700000000015"}},
	{"alarm_desk", []string{"ack", "1700000000016", "", "1", "me", "seen"}},
	{"alarm_desk", []string{"close", "1700000000017", "", "1", "me", "done"}},
	{"alarm_desk", []string{"ack", "1700000000018", "", "99", "me", ""}},
	{"rule_engine", []string{"r1", "1700000000019"}},
	{"rule_engine", []string{"none", "1700000000020"}},
	{"command", []string{"time", "1700000000021", ""}},
	{"command", []string{"submit", "1700000000022", "", "id1", "key", "pcs1", "setpoint", "20", "api", "me", "1700000010000"}},
	{"command", []string{"submit", "1700000000023", "", "id2", "key", "pcs1", "setpoint", "30", "api", "me", "1700000010000"}},
	{"command", []string{"submit", "1700000000023", "", "id3", "", "pcs1", "setpoint", "30", "api", "me", "1600000000000"}},
	{"command", []string{"claim", "1700000000024", "", "id1", "1001", "1700000000000", "token", "1-1", "0"}},
	{"command", []string{"finish", "1700000000025", "", "id1", "token", "executed", "", "", "20"}},
	{"command", []string{"cancel", "1700000000026", "", "id1", "me"}},
	{"command", []string{"expire", "1700000000027", "", "nobody"}},
	{"channel_owner", []string{"release", "1700000000028", "", "1001", "engine", "1700000000000"}},
	{"site_config", []string{"drop_rule", "1000", "", "r1"}},
	{"site_config", []string{"drop_model", "1000", "", "pcs1"}},
	{"site_config", []string{"drop_points", "1000", "", "1001"}},
}

// batch is a call with every kind of section, once the mapping version is known.
func batch(version, number string) step {
	return step{"data_sync", []string{"batch", "1700000000030", "", version, "1001", "1700000000000", number, "2",
		"S", "{s}:comsrv:1001:m", "2", "10001", "99.000000", "10002", "5.000000", "T", "{s}:comsrv:1001:ts", "1", "10001",
		"D", "{s}:comsrv:1001:quality", "1", "10001", "P", "{s}:modsrv:pcs1:update", "power:99.000000",
		"X", "{s}:hissrv:queue", "1000", "1001", "pcs1:power\t99.000000", "R", "1", "r1", "?"}}
}

// entryID is what no two stores have in common: ids of stream entries that the
// clock makes.
var entryID = regexp.MustCompile(`"\d{13,}-\d+"`)

func TestScriptsAnswerTheSame(t *testing.T) {
	t.Parallel()
	list, err := scripts.Scripts()
	require.NoError(t, err)
	texts := map[string]string{}
	for _, s := range list {
		texts[s.Name] = s.Text
	}
	storetest.Each(t, func(t *testing.T, client redis.UniversalClient) {
		t.Parallel()
		ctx := context.Background()
		site := "{" + storetest.Site(t) + "}:"
		keys := []string{site + "anchor"}
		scratch, err := luabox.NewStore(luabox.Options{})
		require.NoError(t, err)
		defer func() { require.NoError(t, scratch.Close(ctx)) }()
		dry, err := luabox.NewStore(luabox.Options{Source: client})
		require.NoError(t, err)
		defer func() { require.NoError(t, dry.Close(ctx)) }()

		used := map[string]bool{}
		check := func(s step) {
			used[s.script] = true
			args := make([]any, len(s.args))
			for i, a := range s.args {
				if len(a) > 4 && a[:4] == "{s}:" {
					s.args[i] = site + a[4:]
				}
				args[i] = s.args[i]
			}
			script := luabox.Script{Name: s.script, Text: texts[s.script]}
			// what the store would answer, seen before it does
			fresh, err := luabox.NewStore(luabox.Options{Source: client})
			require.NoError(t, err)
			foreseen, calls, err := luabox.Run(ctx, script, keys, s.args, fresh)
			require.NoError(t, err, "%v", s)
			require.NotEmpty(t, calls, "%v", s)
			require.NoError(t, fresh.Close(ctx))

			want, err := client.Eval(ctx, texts[s.script], keys, args...).Result()
			require.NoError(t, err, "%v", s)
			got, _, err := luabox.Run(ctx, script, keys, s.args, scratch)
			require.NoError(t, err, "%v", s)
			require.Equal(t, normal(want), normal(got), "%v", s)
			require.Equal(t, normal(want), normal(foreseen), "dry run of %v", s)
		}
		for i, s := range steps {
			s.args = append([]string(nil), s.args...)
			check(s)
			if i == 10 {
				version, err := client.Get(ctx, site+"mapping:version").Result()
				require.NoError(t, err)
				check(batch(version, "5"))
				check(batch(version, "5")) // DUPLICATE
				check(batch(version, "6"))
			}
		}
		for name, text := range texts {
			if !used[name] { // at least it compiles and runs
				_, _, err := luabox.Run(ctx, luabox.Script{Name: name, Text: text}, keys, nil, nil)
				t.Logf("script %s has no typical call here; without arguments: %v", name, err)
				require.NotErrorIs(t, err, luabox.ErrSyntax)
				require.NotErrorIs(t, err, luabox.ErrCommand)
			}
		}
	})
}

func normal(reply any) string { return entryID.ReplaceAllString(fmt.Sprintf("%q", reply), `"an id"`) }
