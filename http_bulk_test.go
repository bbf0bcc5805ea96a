package voltage_test

import (
	"context"
	"fmt"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/voltageems/voltage/model"
	"github.com/voltageems/voltage/scripts"
	"github.com/voltageems/voltage/scripts/storetest"
)

// forgetful is a store that loses the record of each command before it is read.
type forgetful struct {
	loser
	client  redis.UniversalClient // without this hook
	submits atomic.Int64
}

func (f *forgetful) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		args := cmd.Args()
		switch {
		case cmd.Name() == "evalsha" && len(args) > 4 && args[4] == "submit":
			f.submits.Add(1)
		case cmd.Name() == "hgetall" && strings.Contains(fmt.Sprint(args[1]), "}:command:"):
			if err := f.client.Del(ctx, fmt.Sprint(args[1])).Err(); err != nil {
				return err
			}
		}
		return next(ctx, cmd)
	}
}

// Whoever gives several commands and waits for them has each given once, also
// where the store loses what it knew of them.
func TestSeveralCommandsAreGivenOnce(t *testing.T) {
	t.Parallel()
	server := storetest.Own(t)
	client := storetest.Client(t, server.URL)
	store := &forgetful{client: storetest.Client(t, server.URL)}
	client.AddHook(store)
	cfg := pcsSite(t)
	cfg.Store = scripts.StoreConfig{Client: client}
	eng := startEngine(t, cfg)
	valued(t, eng, "pcs1", "active_power", is(0, model.Good))
	r := httptest.NewRequest("POST", "/control", strings.NewReader(`{"commands":[{"model":"pcs1","control":"power_setpoint","value":5}]}`))
	r.RemoteAddr, r.Host = "127.0.0.1:1", "localhost"
	r.Header.Set("Content-Type", "application/json")
	w := httptest.NewRecorder()
	eng.Handler().ServeHTTP(w, r)
	require.Contains(t, []int{200, 207}, w.Code, w.Body.String()) // the record may have been lost before the command ended
	require.EqualValues(t, 1, store.submits.Load(), w.Body.String())
}
