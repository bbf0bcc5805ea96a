package runner

import (
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/voltageems/voltage/channel"
	"github.com/voltageems/voltage/model"
	"github.com/voltageems/voltage/scripts"
	"github.com/voltageems/voltage/scripts/storetest"
)

// demanded is a driver that reads on demand.
type demanded struct {
	*fake
	mu    sync.Mutex
	asked [][]string
	err   error
}

func (d *demanded) Demand(points ...string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.err != nil && d.err.Error() == "panic" {
		panic("in Demand")
	}
	d.asked = append(d.asked, slices.Clone(points))
	return d.err
}

func TestDemand(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, client redis.UniversalClient) {
		t.Parallel()
		s, d := newSite(t, client), &demanded{fake: newFake()}
		r := s.run(d)
		r.waitState(model.ChannelOnline)
		require.NoError(t, r.Demand([]string{"2", "t"}))
		require.NoError(t, r.Demand(nil))
		require.Equal(t, [][]string{{"2", "t"}, {"1", "2", "t", "9"}}, d.asked)
		require.ErrorIs(t, r.Demand([]string{"1", "nobody"}), model.ErrInvalid)
		for _, why := range []error{channel.ErrNotConnected, errors.New("panic")} {
			d.mu.Lock()
			d.err = why
			d.mu.Unlock()
			require.Error(t, r.Demand(nil))
		}
		other := s.run(&demanded{fake: newFake()})
		other.waitState(model.ChannelStandby)
		err := other.Demand(nil)
		require.ErrorIs(t, err, ErrStandby)
		require.ErrorIs(t, err, scripts.ErrConflict)
		r.stop()
		require.ErrorIs(t, r.Demand(nil), ErrStopped)
	})
}

func TestDemandNeedsADriverForIt(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, client redis.UniversalClient) {
		t.Parallel()
		s := newSite(t, client)
		r := s.run(newFake())
		err := r.Demand(nil)
		require.ErrorIs(t, err, ErrNoDemand)
		require.ErrorIs(t, err, scripts.ErrConflict)
	})
}

func TestLastScanOfEachClass(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, client redis.UniversalClient) {
		t.Parallel()
		s, d := newSite(t, client), newFake()
		r := s.run(d, func(_ *Config, ch *channel.Config) {
			ch.Scans = map[string]time.Duration{"slow": time.Minute}
			ch.Points = testPoints()
			ch.Points[1].Scan, ch.Points[2].Scan = "slow", channel.ScanOnce
		})
		classes := func() []string {
			var out []string
			for class, at := range r.Status().LastScans {
				require.False(t, at.IsZero())
				out = append(out, class)
			}
			slices.Sort(out)
			return out
		}
		require.Empty(t, classes())
		d.feed <- []model.Sample{sample("1", 1)}
		eventually(t, "the first class", func() bool { return slices.Equal(classes(), []string{"default"}) })
		d.feed <- []model.Sample{sample("2", 1), {Point: "t", Text: "x"}}
		eventually(t, "all", func() bool { return slices.Equal(classes(), []string{"default", "once", "slow"}) })
		r.stop()
		require.NotEmpty(t, s.stored("last_scan:slow"))
		require.NotEmpty(t, s.stored("last_scan:default"))
	})
}
