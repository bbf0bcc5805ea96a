package runner

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/pprof"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/voltageems/voltage/channel"
	"github.com/voltageems/voltage/channel/channeltest"
	"github.com/voltageems/voltage/model"
	"github.com/voltageems/voltage/scripts"
	"github.com/voltageems/voltage/scripts/storetest"
)

// patience is how long a test waits for what is to come. It only decides how
// soon a wrong runner fails.
const patience = 30 * time.Second

func eventually(t testing.TB, what string, cond func() bool) {
	t.Helper()
	require.Eventually(t, cond, patience, 2*time.Millisecond, what)
}

// turn turns the clock in steps until cond holds.
func turn(t testing.TB, clock *channeltest.Clock, step time.Duration, what string, cond func() bool) {
	t.Helper()
	require.Eventually(t, func() bool {
		if cond() {
			return true
		}
		clock.Advance(step)
		return false
	}, patience, time.Millisecond, what)
}

// site is a site on a store, with a model pcs1 bound to channel c1.
type site struct {
	t       testing.TB
	name    string
	client  redis.UniversalClient // of the test
	plane   *scripts.Plane        // of the test
	engines atomic.Int64
	clock   model.Clock // of the store; nil for its own
	policy  model.ControlPolicy
}

func testPoints() []model.Point {
	limit := 100.0
	return []model.Point{
		{ID: "1", Unit: "kW"}, {ID: "2"}, {ID: "t", Text: true},
		{ID: "9", Kind: model.Control, Max: &limit, ReadBack: true},
	}
}

func newSite(t testing.TB, client redis.UniversalClient) *site {
	t.Helper()
	return newSiteWith(t, client, nil, model.ControlPolicy{Queue: true})
}

// newSiteWith is a site whose store has that clock, and a policy of the control.
func newSiteWith(t testing.TB, client redis.UniversalClient, clock model.Clock, p model.ControlPolicy) *site {
	t.Helper()
	s := &site{t: t, name: storetest.Site(t), client: client, clock: clock, policy: p}
	s.plane = s.newPlane(client)
	return s
}

// newPlane returns the plane of another program on the same site.
func (s *site) newPlane(client redis.UniversalClient) *scripts.Plane {
	s.t.Helper()
	var plane *scripts.Plane
	define := func(ctx context.Context) error {
		err := plane.PutModel(ctx, model.Instance{
			ID:           "pcs1",
			Measurements: map[string]string{"p1": "c1:1", "p2": "c1:2", "text": "c1:t"},
			Controls:     map[string]string{"set": "c1:9"},
			Policies:     map[string]model.ControlPolicy{"set": s.policy},
		})
		return errors.Join(err, plane.PutPoints(ctx, "c1", testPoints()))
	}
	options := scripts.Options{Site: s.name, Restore: define, Log: quiet(), HistoryBytes: 1 << 20}
	if s.clock != nil {
		options.Now = s.clock.Now
	}
	plane, err := scripts.New(client, options)
	require.NoError(s.t, err)
	require.NoError(s.t, plane.Prepare(s.t.Context()))
	require.NoError(s.t, define(s.t.Context()))
	require.NoError(s.t, plane.Prepare(s.t.Context())) // knows the definitions
	return plane
}

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

// running is a runner that runs.
type running struct {
	*Runner
	t    testing.TB
	stop func() // ends Run and waits for it; it leaves no goroutine
	name string

	mu     sync.Mutex
	states []model.ChannelState
}

type option func(*Config, *channel.Config)

func withClock(c model.Clock) option {
	return func(cfg *Config, _ *channel.Config) {
		cfg.Clock, cfg.Lease = c, time.Hour // by the test's clock; the store's own goes on
	}
}
func withLease(d time.Duration) option { return func(cfg *Config, _ *channel.Config) { cfg.Lease = d } }
func withPlane(p *scripts.Plane) option {
	return func(cfg *Config, _ *channel.Config) { cfg.Plane = p }
}
func withStale(d time.Duration) option {
	return func(_ *Config, ch *channel.Config) { ch.Stale = d }
}

// run runs channel c1 with a driver, or without one.
func (s *site) run(driver channel.Driver, options ...option) *running {
	s.t.Helper()
	r := &running{t: s.t, name: fmt.Sprintf("%s-engine%d", s.name, s.engines.Add(1))}
	cfg := Config{Plane: s.plane, Engine: r.name, Log: quiet(), OnStatus: func(st model.ChannelStatus) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.states = append(r.states, st.State)
	}}
	ch := channel.Config{ID: "c1", Points: testPoints(), Stale: -1}
	if driver != nil {
		ch.Driver = func(channel.Setup) (channel.Driver, error) { return driver, nil }
	}
	for _, o := range options {
		o(&cfg, &ch)
	}
	var err error
	r.Runner, err = New(cfg, ch)
	require.NoError(s.t, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go pprof.Do(ctx, pprof.Labels("runner", r.name), func(ctx context.Context) {
		defer close(done)
		r.Run(ctx)
	})
	r.stop = func() {
		s.t.Helper()
		cancel()
		select {
		case <-done:
		case <-time.After(patience):
			s.t.Fatal("Run does not end")
		}
	}
	s.t.Cleanup(func() {
		r.stop()
		eventually(s.t, "no goroutine stays", func() bool { return goroutines(s.t, r.name) == "" })
	})
	return r
}

// goroutines returns the stacks of a runner's goroutines.
func goroutines(t testing.TB, name string) string {
	var profile bytes.Buffer
	require.NoError(t, pprof.Lookup("goroutine").WriteTo(&profile, 1))
	var found []string
	for stack := range strings.SplitSeq(profile.String(), "\n\n") {
		if strings.Contains(stack, fmt.Sprintf("%q:%q", "runner", name)) && strings.Contains(stack, "internal/runner.") {
			found = append(found, stack)
		}
	}
	return strings.Join(found, "\n\n")
}

func (r *running) seen() []model.ChannelState {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]model.ChannelState(nil), r.states...)
}

func (r *running) waitState(state model.ChannelState) {
	r.t.Helper()
	eventually(r.t, "state "+string(state), func() bool { return r.Status().State == state })
}

// value returns a model's value as text, "12.5 stale" or "12.5".
func (s *site) value(name string) string {
	values, err := s.plane.Values(context.Background(), "pcs1")
	if err != nil {
		return err.Error()
	}
	v, ok := values[name]
	if !ok {
		return "none"
	}
	text := fmt.Sprint(v.Value)
	if v.Text != "" {
		text = v.Text
	}
	if v.Quality != model.Good {
		text += " " + v.Quality.String()
	}
	return text
}

func (s *site) waitValue(name, want string) {
	s.t.Helper()
	last := ""
	require.Eventuallyf(s.t, func() bool { last = s.value(name); return last == want }, patience, 2*time.Millisecond,
		"%s is to become %q", name, want)
}

// history returns what went to history of a point of pcs1: "value quality".
func (s *site) history(name string) []string {
	s.t.Helper()
	entries, err := s.client.XRange(context.Background(), "{"+s.name+"}:hissrv:queue", "-", "+").Result()
	require.NoError(s.t, err)
	var list []string
	for _, e := range entries {
		for line := range strings.Lines(e.Values["points"].(string)) {
			f := append(strings.Split(strings.TrimSpace(line), "\t"), "", "", "")
			if f[0] == "pcs1:"+name {
				list = append(list, strings.TrimSpace(strings.TrimRight(strings.TrimRight(f[1], "0"), ".")+" "+f[3]))
			}
		}
	}
	return list
}

func (s *site) owner() string {
	_, owner, err := s.plane.ChannelStatus(context.Background(), "c1")
	require.NoError(s.t, err)
	return owner
}

func (s *site) stored(field string) string {
	status, _, err := s.plane.ChannelStatus(context.Background(), "c1")
	if err != nil {
		return err.Error()
	}
	return status[field]
}

// submit asks for a value and returns the command's id.
func (s *site) submit(r *running, value float64, timeout time.Duration) string {
	s.t.Helper()
	id := fmt.Sprintf("cmd%d", s.engines.Add(1))
	res, err := s.plane.Submit(context.Background(), model.Command{ID: id, Model: "pcs1", Control: "set", Value: value, Timeout: timeout})
	require.NoError(s.t, err)
	require.Equal(s.t, model.CommandQueued, res.State, res.Detail)
	if r != nil {
		r.Wake()
	}
	return id
}

func (s *site) command(id string) model.CommandResult {
	res, err := s.plane.Command(context.Background(), id)
	if err != nil {
		return model.CommandResult{Detail: err.Error()}
	}
	return res
}

// final waits for the final state of a command: "failed refused".
func (s *site) final(id string) string {
	s.t.Helper()
	eventually(s.t, "command "+id+" ends", func() bool { return s.command(id).State.Final() })
	res := s.command(id)
	return strings.TrimSpace(string(res.State) + " " + res.Reason)
}
