package scripts_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/voltageems/voltage/model"
	"github.com/voltageems/voltage/scripts"
	"github.com/voltageems/voltage/scripts/storetest"
)

// Other programs may have put anything into mapping:version.
func TestForeignMappingVersion(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, client redis.UniversalClient) {
		s := newSite(t, client)
		ctx := t.Context()
		w := s.NewWriter(s.lease, s.points)
		for _, foreign := range []string{"2026-11-23T01:00", "9223372036854775807"} {
			require.NoError(t, client.Set(ctx, s.key("mapping:version"), foreign, 0).Err())
			_, _, err := w.Write(ctx, []model.Sample{sample("1", 1)}, false)
			require.NoError(t, err)
			require.NoError(t, s.PutModel(ctx, model.Instance{ID: "m" + foreign[:4], Measurements: map[string]string{"x": "1001:1"}}))
			require.NotEqual(t, foreign, client.Get(ctx, s.key("mapping:version")).Val())
			_, _, err = w.Write(ctx, []model.Sample{sample("1", 1)}, false)
			require.NoError(t, err)
			require.Equal(t, "1.000000", s.hash(t, "modsrv:m"+foreign[:4]+":measurement")["x"])
		}
	})
}

// Rules of other programs may be any JSON; they cost themselves alone.
func TestOddRules(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, client redis.UniversalClient) {
		s := newSite(t, client)
		ctx := t.Context()
		w := s.NewWriter(s.lease, s.points)
		_, _, err := w.Write(ctx, []model.Sample{sample("2", 70)}, false)
		require.NoError(t, err)
		good := `{"model_id":"pcs1","point_name":"temperature","operator":">","threshold":"60"}`
		for id, conditions := range map[string]string{"number": `[5]`, "null": `[null]`, "text": `["x"]`, "object": `{"a":1}`,
			"deep": strings.Repeat("[", 5000), "mixed": `[` + good + `,7]`, "odd": `[{"key":{},"field":[1]}]`, "names": `[{"model_id":{},"point_name":1}]`} {
			require.NoError(t, client.HSet(ctx, s.key("rule:"+id), "conditions", conditions, "actions", `[{"type":"notification","message":"x"}]`).Err())
			ran, _, err := s.RunRule(ctx, id)
			require.NoError(t, err, id)
			require.False(t, ran, id)
		}
		// one action that cannot be done does not keep the next from being done
		require.NoError(t, client.HSet(ctx, s.key("rule:acts"), "conditions", "["+good+"]", "actions",
			`[{"type":"alarm","severity":{},"message":[]},{"type":"control","model_id":[],"control_name":1,"value":{}},5,{"type":"notification","message":"here","severity":null}]`).Err())
		ran, notes, err := s.RunRule(ctx, "acts")
		require.NoError(t, err)
		require.True(t, ran)
		require.NotEmpty(t, notes)
		list, err := client.LRange(ctx, s.key("notification:queue"), 0, -1).Result()
		require.NoError(t, err)
		require.Contains(t, strings.Join(list, "\n"), "here")
	})
}

// A journal that cannot be written holds back what it should have told: nothing
// happens behind its back, and it happens once it can be written again.
func TestForeignJournals(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, client redis.UniversalClient) {
		s := newSite(t, client)
		ctx := t.Context()
		require.NoError(t, s.PutAlarmRule(ctx, model.AlarmRule{ID: "hot", Model: "pcs1", Point: "temperature", Operator: model.Above, Threshold: 60}))
		w := s.NewWriter(s.lease, s.points)
		steps := func() (list []string) {
			t.Helper()
			journal, err := s.AlarmJournal(ctx, "", 10)
			require.NoError(t, err)
			for _, ev := range journal {
				list = append(list, string(ev.Transition))
			}
			return list
		}
		for _, key := range []string{"alarm:journal", "alarm:active"} {
			require.NoError(t, client.Set(ctx, s.key(key), "foreign", 0).Err())
			for range 2 {
				s.now.Add(1000) // what failed is tried again a second later
				_, warnings, err := w.Write(ctx, []model.Sample{sample("2", 61)}, false)
				require.NoError(t, err)
				require.Len(t, warnings, 1, key)
			}
			for _, state := range s.hash(t, "alarm:state") {
				require.Contains(t, state, "|||normal|", "it waits to be raised")
			}
			require.NoError(t, client.Del(ctx, s.key(key)).Err())
		}
		require.NoError(t, client.Del(ctx, s.key("alarm:journal")).Err()) // raised was told there, twice
		s.now.Add(1000)
		_, _, err := w.Write(ctx, []model.Sample{sample("2", 62)}, false)
		require.NoError(t, err)
		open, err := s.OpenAlarms(ctx)
		require.NoError(t, err)
		require.Len(t, open, 1)
		require.Equal(t, []string{"raised"}, steps())

		c := model.Command{ID: "c", Model: "pcs1", Control: "power_setpoint", Value: 1}
		require.NoError(t, client.Set(ctx, s.key("command:journal"), "foreign", 0).Err())
		_, err = s.Submit(ctx, c)
		require.Error(t, err)
		queue, err := s.Queue(ctx, "1001", "")
		require.NoError(t, err)
		require.Empty(t, queue)
		require.NoError(t, client.Del(ctx, s.key("command:journal")).Err())
		_, err = s.Submit(ctx, c)
		require.NoError(t, err)
		queue, err = s.Queue(ctx, "1001", "")
		require.NoError(t, err)
		require.NoError(t, client.Rename(ctx, s.key("command:journal"), s.key("away")).Err())
		require.NoError(t, client.Set(ctx, s.key("command:journal"), "foreign", 0).Err())
		_, err = s.Claim(ctx, s.lease, queue[0], "t")
		require.Error(t, err)
		r, err := s.Command(ctx, "c")
		require.NoError(t, err)
		require.Equal(t, model.CommandQueued, r.State)
		require.NoError(t, client.Del(ctx, s.key("command:journal")).Err())
		_, err = s.Claim(ctx, s.lease, queue[0], "t")
		require.NoError(t, err)
	})
}

// Both stores take the same numbers.
func TestNumbersByHand(t *testing.T) {
	t.Parallel()
	text, err := scripts.Dump("data_sync")
	require.NoError(t, err)
	storetest.Each(t, func(t *testing.T, client redis.UniversalClient) {
		p := "{" + storetest.Site(t) + "}:"
		for v, want := range map[string]string{"1000000000000000": "1000000000000000.000000", "1000000000000001": "", "-1000000000000000.5": "",
			"123456789012345678901234567890": "", "-0": "0.000000", "-0.0000004": "0.000000", "+3": "3.000000", ".5": "0.500000", "5.": "5.000000",
			"00012": "12.000000", " 1": "", "1 ": "", "1_0": "", "1,5": "", "+": "", ".": "", "-": ""} {
			reply, err := client.Eval(t.Context(), text, []string{p + "anchor"}, "c2m", "7", "1", v).StringSlice()
			require.NoError(t, err, v)
			if want == "" {
				require.Equal(t, "INVALID", reply[0], v)
				continue
			}
			require.Equal(t, "OK", reply[0], v)
			require.Equal(t, want, client.HGet(t.Context(), p+"comsrv:7:m", "1").Val(), v)
		}
	})
}

func TestRulesIndexIsRepaired(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, client redis.UniversalClient) {
		s := newSite(t, client)
		ctx := t.Context()
		for _, id := range []string{"b", "a", "off"} {
			require.NoError(t, s.PutRule(ctx, model.Rule{ID: id, Disabled: id == "off",
				Conditions: []model.Condition{{Model: "pcs1", Point: "temperature", Operator: model.Above, Threshold: 60}},
				Actions:    []model.Action{{Type: model.ActionNotification, Message: "hot"}}}))
		}
		version := func() string { return client.Get(ctx, s.key("mapping:version")).Val() }
		reconcile := func() {
			t.Helper()
			_, err := s.Reconcile(ctx)
			require.NoError(t, err)
		}
		before := version()
		reconcile()
		require.Equal(t, before, version(), "nothing to repair")
		require.NoError(t, client.HDel(ctx, s.key("rules:index"), "pcs1:temperature").Err())
		reconcile()
		require.Equal(t, "a,b", s.hash(t, "rules:index")["pcs1:temperature"])
		before = version()
		reconcile()
		require.Equal(t, before, version(), "repaired once")
	})
}

func TestManyNamesOfOnePointInOneModel(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, client redis.UniversalClient) {
		s := newSite(t, client)
		m := model.Instance{ID: "many", Measurements: map[string]string{}}
		for i := range 12 {
			m.Measurements[fmt.Sprintf("n%d", i)] = "1001:1"
		}
		require.NoError(t, s.PutModel(t.Context(), m))
		w := s.NewWriter(s.lease, s.points)
		samples := make([]model.Sample, scripts.MaxBatch)
		for i := range samples {
			samples[i] = sample("1", float64(i))
		}
		_, warnings, err := w.Write(t.Context(), samples, false)
		require.NoError(t, err)
		require.Empty(t, warnings)
		values, err := s.Values(t.Context(), "many")
		require.NoError(t, err)
		require.Equal(t, model.Value{Value: 499, Time: time.UnixMilli(start), Unit: "kW"}, values["n11"])
	})
}

func TestAlarmEdges(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, client redis.UniversalClient) {
		for i, c := range []struct {
			operator              model.Operator
			threshold, hysteresis float64
			values                []float64
			want                  string
		}{
			{model.Equal, 1, 0, []float64{1.000001, 0.999999, 1, 1.000001}, "raised cleared"},
			{model.NotEqual, 1, 0, []float64{1, 1.000001, 1}, "raised cleared"},
			{model.Above, 0.3, 0.1, []float64{0.3, 0.300001, 0.200001, 0.2}, "raised cleared"},
			{model.AboveOrEqual, 0.3, 0.1, []float64{0.3, 0.2, 0.199999}, "raised cleared"},
			{model.Below, 0.1, 0.2, []float64{0.1, 0.099999, 0.299999, 0.3}, "raised cleared"},
			{model.BelowOrEqual, 0.1, 0.2, []float64{0.1, 0.3, 0.300001}, "raised cleared"},
		} {
			s := newSite(t, client)
			require.NoError(t, s.PutAlarmRule(t.Context(), model.AlarmRule{ID: "r", Model: "pcs1", Point: "temperature",
				Operator: c.operator, Threshold: c.threshold, Hysteresis: c.hysteresis}))
			w := s.NewWriter(s.lease, s.points)
			var got []string
			for j, v := range c.values {
				_, _, err := w.Write(t.Context(), []model.Sample{sample("2", v)}, false)
				require.NoError(t, err)
				journal, err := s.AlarmJournal(t.Context(), "", 10)
				require.NoError(t, err)
				got = got[:0]
				for _, ev := range journal {
					got = append(got, string(ev.Transition))
				}
				if j < len(c.values)-1 {
					require.NotContains(t, got, "cleared", "case %d, value %v", i, v)
				}
			}
			require.Equal(t, c.want, strings.Join(got, " "), "case %d", i)
		}
	})
}
