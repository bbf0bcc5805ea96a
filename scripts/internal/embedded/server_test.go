package embedded

import (
	"context"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
)

type fakeClock struct {
	mu sync.Mutex
	t  time.Time
}

func (c *fakeClock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.t
}

func (c *fakeClock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = c.t.Add(d)
}

func newClient(t testing.TB, s *Server) *redis.Client {
	t.Helper()
	return dialClient(t, s.Dial)
}

func dialClient(t testing.TB, dial func(context.Context, string, string) (net.Conn, error)) *redis.Client {
	t.Helper()
	c := redis.NewClient(&redis.Options{
		Dialer: dial, Protocol: 2, MaxRetries: -1, DialerRetries: 1, ContextTimeoutEnabled: true,
		DisableIdentity: true, PipelinePoolSize: -1,
	})
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func TestExpiriesPass(t *testing.T) {
	t.Parallel()
	clock := &fakeClock{t: time.Now()}
	s, err := newServer(clock.now)
	require.NoError(t, err)
	defer func() { require.NoError(t, s.Close(context.Background())) }()
	c := newClient(t, s)
	ctx := context.Background()

	require.NoError(t, c.Set(ctx, "lease", "me", 10*time.Second).Err())
	clock.add(9 * time.Second)
	require.Equal(t, "me", c.Get(ctx, "lease").Val())
	require.InDelta(t, time.Second, c.PTTL(ctx, "lease").Val(), float64(50*time.Millisecond))
	clock.add(1100 * time.Millisecond)
	require.ErrorIs(t, c.Get(ctx, "lease").Err(), redis.Nil)
}

func TestWallClockSetBackDoesNotStopExpiries(t *testing.T) {
	t.Parallel()
	s, err := New() // real time: its readings carry the monotonic clock
	require.NoError(t, err)
	defer func() { require.NoError(t, s.Close(context.Background())) }()
	c := newClient(t, s)
	ctx := context.Background()
	require.NoError(t, c.Set(ctx, "short", "x", 20*time.Millisecond).Err())
	require.Eventually(t, func() bool { return c.Exists(ctx, "short").Val() == 0 }, 10*time.Second, 5*time.Millisecond)
}

// A subscriber that never reads must neither stop publishers nor keep memory.
func TestSubscriberThatDoesNotReadIsDropped(t *testing.T) {
	t.Parallel()
	clock := &fakeClock{t: time.Now()}
	s, err := newServer(clock.now)
	require.NoError(t, err)
	defer func() { require.NoError(t, s.Close(context.Background())) }()
	ctx := context.Background()

	raw, err := s.Dial(ctx, "", "")
	require.NoError(t, err)
	_, err = raw.Write([]byte("*2\r\n$9\r\nSUBSCRIBE\r\n$4\r\nnews\r\n"))
	require.NoError(t, err)
	reply := make([]byte, 64)
	n, err := raw.Read(reply)
	require.NoError(t, err)
	require.Contains(t, string(reply[:n]), "subscribe")

	c := newClient(t, s)
	healthy := c.Subscribe(ctx, "news")
	defer func() { require.NoError(t, healthy.Close()) }()
	_, err = healthy.Receive(ctx)
	require.NoError(t, err)

	message := strings.Repeat("x", 64<<10)
	publish := func() int64 {
		got, err := c.Publish(ctx, "news", message).Result()
		require.NoError(t, err)
		_, err = healthy.ReceiveMessage(ctx)
		require.NoError(t, err)
		return got
	}
	for range 40 { // 2.5 MiB wait for the one that does not read
		require.EqualValues(t, 2, publish())
	}
	clock.add(slowAfter + time.Second)
	// Now it is dropped; the one that reads stays.
	require.Eventually(t, func() bool { return publish() == 1 }, 10*time.Second, time.Millisecond)
	_, err = raw.Read(reply)
	require.Error(t, err)
}

func TestBlockedReadersEndWithTheServer(t *testing.T) {
	t.Parallel()
	s, err := New()
	require.NoError(t, err)
	c := newClient(t, s)
	ctx := context.Background()
	require.NoError(t, c.XGroupCreateMkStream(ctx, "s", "g", "$").Err())
	before := s.srv.TotalCommands()
	got := make(chan error, 1)
	go func() {
		got <- c.XReadGroup(ctx, &redis.XReadGroupArgs{Group: "g", Consumer: "c", Streams: []string{"s", ">"}, Block: time.Hour}).Err()
	}()
	require.Eventually(t, func() bool { return s.srv.TotalCommands() > before }, 10*time.Second, time.Millisecond)
	require.NoError(t, s.Close(ctx))
	require.Error(t, <-got)
	require.NoError(t, s.Close(ctx))
	_, err = s.Dial(ctx, "", "")
	require.ErrorIs(t, err, ErrClosed)
}

func TestManyClientsAtOnce(t *testing.T) {
	t.Parallel()
	s, err := New()
	require.NoError(t, err)
	defer func() { require.NoError(t, s.Close(context.Background())) }()
	c := newClient(t, s)
	ctx := context.Background()
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			for range 50 {
				if err := c.Incr(ctx, "n").Err(); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	require.Equal(t, "1000", c.Get(ctx, "n").Val())
}

// BenchmarkEvalsha compares the transports with a call of 500 samples, the
// largest that the engine sends, and BenchmarkPipeline with 100 commands. The
// figures in docs/store.md come from them.
func BenchmarkEvalsha(b *testing.B) {
	const script = `local n = 0; for i = 1, #ARGV, 3 do n = n + 1 end; return n`
	args := make([]any, 0, 1500)
	for i := range 500 {
		args = append(args, fmt.Sprint(10000+i), fmt.Sprintf("%.6f", 230.1+float64(i)), fmt.Sprint(i))
	}
	each(b, true, func(b *testing.B, c *redis.Client) {
		ctx := context.Background()
		sha, err := c.ScriptLoad(ctx, script).Result()
		require.NoError(b, err)
		for b.Loop() {
			if err := c.EvalSha(ctx, sha, []string{"{s}:anchor"}, args...).Err(); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkPipeline(b *testing.B) {
	// net.Pipe is not among them: client and server both wait to write, and the
	// pipeline ends by time-out.
	each(b, false, func(b *testing.B, c *redis.Client) {
		ctx := context.Background()
		for b.Loop() {
			_, err := c.Pipelined(ctx, func(p redis.Pipeliner) error {
				for range 100 {
					p.HSet(ctx, "h", "f", "230.100000")
				}
				return nil
			})
			if err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkPing(b *testing.B) {
	each(b, true, func(b *testing.B, c *redis.Client) {
		for b.Loop() {
			if err := c.Ping(context.Background()).Err(); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkClock shows what miniredis' own clock costs beside this package's: a
// script that makes 1,000 accesses to a store of 2,000 keys.
func BenchmarkClock(b *testing.B) {
	const script = `for i = 1, 1000 do redis.call('HSET', 'h', i, '1') end`
	ctx := context.Background()
	fill := func(b *testing.B, c *redis.Client) {
		for i := range 2000 {
			require.NoError(b, c.Set(ctx, fmt.Sprintf("command:%d", i), "x", 24*time.Hour).Err())
		}
		b.ResetTimer()
		for b.Loop() {
			if err := c.Eval(ctx, script, nil).Err(); err != nil && err != redis.Nil {
				b.Fatal(err)
			}
		}
	}
	b.Run("ours", func(b *testing.B) {
		s, err := New()
		require.NoError(b, err)
		defer func() { _ = s.Close(ctx) }()
		fill(b, newClient(b, s))
	})
	b.Run("ClockTTL", func(b *testing.B) {
		m := miniredis.NewMiniRedis()
		defer m.Close()
		m.ClockTTL(true)
		fill(b, dialClient(b, func(context.Context, string, string) (net.Conn, error) { return m.Dial() }))
	})
}

func each(b *testing.B, netPipe bool, f func(*testing.B, *redis.Client)) {
	b.Run("ours", func(b *testing.B) {
		s, err := New()
		require.NoError(b, err)
		defer func() { _ = s.Close(context.Background()) }()
		f(b, newClient(b, s))
	})
	b.Run("net.Pipe", func(b *testing.B) {
		if !netPipe {
			b.Skip("deadlocks")
		}
		m := miniredis.NewMiniRedis()
		defer m.Close()
		f(b, dialClient(b, func(context.Context, string, string) (net.Conn, error) { return m.Dial() }))
	})
	b.Run("loopback", func(b *testing.B) {
		m, err := miniredis.Run()
		require.NoError(b, err)
		defer m.Close()
		var d net.Dialer
		f(b, dialClient(b, func(ctx context.Context, _, _ string) (net.Conn, error) {
			return d.DialContext(ctx, "tcp", m.Addr())
		}))
	})
}
