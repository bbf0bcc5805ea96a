package voltage_test

import (
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/voltageems/voltage"
	"github.com/voltageems/voltage/channel"
	"github.com/voltageems/voltage/channel/virtual"
	"github.com/voltageems/voltage/model"
	"github.com/voltageems/voltage/scripts"
	"github.com/voltageems/voltage/scripts/storetest"
)

// pcsSite is a converter whose point allows ±100 kW, made of a template for 50.
func pcsSite(t *testing.T) voltage.Config {
	t.Helper()
	low, high := -100.0, 100.0
	lib, err := voltage.LoadTemplates()
	require.NoError(t, err)
	m, rules, err := lib.Instance(model.Instance{ID: "pcs1", Template: "pcs", Parent: "plant", Properties: map[string]float64{"rated_power": 50},
		Measurements: map[string]string{"active_power": "1:1"}, Controls: map[string]string{"power_setpoint": "1:2"}})
	require.NoError(t, err)
	return voltage.Config{Site: storetest.Site(t), Models: []model.Instance{m}, Alarms: rules,
		Channels: []channel.Config{{ID: "1", Driver: virtual.New(), Points: []model.Point{
			{ID: "1", Unit: "kW", Address: "follow:2"},
			{ID: "2", Kind: model.Control, Unit: "kW", Min: &low, Max: &high, Step: 0.5, Address: "setpoint:0"}}}}}
}

func TestLimitsOfATemplate(t *testing.T) {
	t.Parallel()
	stores(t, func(t *testing.T, store scripts.StoreConfig, _ *storetest.Server) {
		cfg := pcsSite(t)
		cfg.Store = store
		eng := startEngine(t, cfg)
		valued(t, eng, "pcs1", "active_power", is(0, model.Good))
		give := func(value float64) (model.CommandResult, error) {
			return eng.Control(t.Context(), model.Command{Model: "pcs1", Control: "power_setpoint", Value: value})
		}
		r, err := give(60)
		require.ErrorIs(t, err, voltage.ErrRejected)
		require.Equal(t, "limit", r.Reason)
		_, err = give(40)
		require.NoError(t, err)
		valued(t, eng, "pcs1", "load_factor", is(80, model.Good))

		// Another instance has other limits, and they go with it.
		m := cfg.Models[0].Clone()
		wide := 70.0
		info := m.Points["power_setpoint"]
		info.Max = &wide
		m.Points["power_setpoint"] = info
		require.NoError(t, eng.RegisterModel(m))
		_, err = give(60)
		require.NoError(t, err)
		require.NoError(t, eng.RemoveModel("pcs1"))
		require.NoError(t, eng.RegisterModel(model.Instance{ID: "pcs1", Controls: map[string]string{"power_setpoint": "1:2"}}))
		_, err = give(90)
		require.NoError(t, err)

		w := httptest.NewRecorder()
		require.NoError(t, eng.RegisterModel(cfg.Models[0]))
		request := httptest.NewRequest("GET", "http://127.0.0.1/models/pcs1", nil)
		request.RemoteAddr = "127.0.0.1:50000"
		eng.Handler().ServeHTTP(w, request)
		require.Contains(t, w.Body.String(), `"template":"pcs"`)
		require.Contains(t, w.Body.String(), `"max":50`)
	})
}

func TestProblemsOfModels(t *testing.T) {
	t.Parallel()
	cfg := pcsSite(t)
	m := cfg.Models[0].Clone()
	delete(m.Controls, "power_setpoint")
	delete(m.Policies, "power_setpoint")
	m.Measurements["ac_voltage"], m.Measurements["ac_current"] = "1:1", "9:1"
	m.Calculations["odd"] = model.Calculation{Expression: "meter9.power + 1"}
	cfg.Models[0] = m
	eng := startEngine(t, cfg)
	told := func(text string) func() bool {
		return func() bool {
			return slices.ContainsFunc(eng.Problems(), func(p string) bool { return strings.Contains(p, text) })
		}
	}
	for _, want := range []string{
		"model pcs1: its parent plant does not exist",
		"model pcs1: control power_setpoint of template pcs is not bound",
		"model pcs1: active_power: 1:1 is bound twice: as ac_voltage and as active_power",
		"model pcs1: ac_voltage: it is in V, and point 1:1 in kW",
		"model pcs1: calculation odd: there is no meter9.power",
		"model pcs1: measurement ac_current is bound to 9:1, which does not exist",
	} {
		eventually(t, want, told(want))
	}
	require.NoError(t, eng.RegisterModel(model.Instance{ID: "plant"}))
	eventually(t, "the parent", func() bool { return !told("its parent")() })
}

func TestSetModelEnabled(t *testing.T) {
	t.Parallel()
	stores(t, func(t *testing.T, store scripts.StoreConfig, server *storetest.Server) {
		cfg := pcsSite(t)
		cfg.Store = store
		eng := startEngine(t, cfg)
		valued(t, eng, "pcs1", "active_power", is(0, model.Good))
		enabled := func(eng *voltage.Engine) bool {
			_, err := eng.Control(t.Context(), model.Command{Model: "pcs1", Control: "power_setpoint", Value: 1})
			if err != nil {
				require.ErrorIs(t, err, voltage.ErrRejected)
				require.ErrorContains(t, err, "disabled")
			}
			models, listed := eng.Models(t.Context())
			require.NoError(t, listed)
			require.Equal(t, err != nil, models[0].Disabled)
			return err == nil
		}
		require.True(t, enabled(eng))
		require.NoError(t, eng.SetModelEnabled(t.Context(), "pcs1", false))
		require.False(t, enabled(eng))
		require.NoError(t, eng.RegisterModel(cfg.Models[0]))
		require.False(t, enabled(eng), "a new definition does not enable it")
		require.ErrorIs(t, eng.SetModelEnabled(t.Context(), "pcs9", false), scripts.ErrNotFound)
		require.ErrorIs(t, eng.SetModelEnabled(t.Context(), "a b", false), model.ErrInvalid)
		if server != nil { // the embedded store keeps nothing
			require.NoError(t, eng.Stop(t.Context()))
			eng = startEngine(t, cfg)
			valued(t, eng, "pcs1", "active_power", func(v model.Value) bool { return v.Quality == model.Good })
			require.False(t, enabled(eng), "a restart does not enable it")
		}
		require.NoError(t, eng.SetModelEnabled(t.Context(), "pcs1", true))
		require.True(t, enabled(eng))
		m := cfg.Models[0].Clone()
		m.Disabled = true
		require.NoError(t, eng.RegisterModel(m))
		require.False(t, enabled(eng))
		require.ErrorIs(t, eng.SetModelEnabled(t.Context(), "pcs1", true), scripts.ErrConflict)
		// Who goes takes it along.
		require.NoError(t, eng.SetModelEnabled(t.Context(), "pcs1", false))
		require.NoError(t, eng.RemoveModel("pcs1"))
		require.NoError(t, eng.RegisterModel(cfg.Models[0]))
		require.True(t, enabled(eng))
	})
}
