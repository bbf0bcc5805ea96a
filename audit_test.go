package voltage_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/voltageems/voltage"
	"github.com/voltageems/voltage/alarm"
	"github.com/voltageems/voltage/model"
	"github.com/voltageems/voltage/scripts/storetest"
)

// What the program changes on a running engine is in the audit journal, once, and
// what it defines before is its configuration.
func TestChangesByTheProgramAreAudited(t *testing.T) {
	t.Parallel()
	rule := func(id string) alarm.Rule {
		return alarm.Rule{ID: id, Model: "m", Point: "x", Operator: model.Above, Threshold: 1}
	}
	eng := startEngine(t, voltage.Config{Site: storetest.Site(t), Models: []model.Instance{{ID: "m", Measurements: map[string]string{"x": "1:1"}}},
		Alarms: []alarm.Rule{rule("before")}})
	require.NoError(t, eng.RegisterAlarm(rule("high")))
	require.NoError(t, eng.RemoveAlarm("m", "x", "high"))
	require.NoError(t, eng.SetModelEnabled(t.Context(), "m", false))
	require.Error(t, eng.SetModelEnabled(t.Context(), "none", false))
	r := httptest.NewRequest(http.MethodPut, "http://127.0.0.1/models/m/enabled", strings.NewReader(`{"enabled":true}`))
	r.RemoteAddr = "127.0.0.1:50000"
	r.Header.Set("Content-Type", "application/json")
	w := httptest.NewRecorder()
	eng.Handler().ServeHTTP(w, r)
	require.Equal(t, http.StatusOK, w.Code, w.Body)

	var got []string
	eventually(t, "the audit journal", func() bool {
		entries, err := eng.Plane().AuditJournal(t.Context(), "", 100)
		got = nil
		for _, e := range entries {
			got = append(got, e.From+" "+e.Action+" "+e.Target+" "+e.Result)
		}
		return err == nil && len(entries) >= 5
	})
	require.Equal(t, []string{
		"go register alarm:m:x:high ok", "go remove alarm:m:x:high ok", "go enabled false model:m ok", "go enabled false model:none failed",
		"127.0.0.1 enableModel m ok",
	}, got)
}
