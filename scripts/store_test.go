package scripts

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/voltageems/voltage/scripts/storetest"
)

// storeLog collects log lines for a test.
type storeLog struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *storeLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *storeLog) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

func (l *storeLog) logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(l, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// storeOpen opens a store that ends with the test.
func storeOpen(t *testing.T, cfg StoreConfig) *Store {
	t.Helper()
	log := &storeLog{}
	s, err := OpenStore(context.Background(), cfg, log.logger())
	require.NoError(t, err, log)
	t.Cleanup(func() { require.NoError(t, s.Close(context.Background())) })
	require.NoError(t, s.Client.Set(context.Background(), "{"+storetest.Site(t)+"}:x", "1", time.Minute).Err())
	return s
}

func TestStoreConfigValidate(t *testing.T) {
	t.Parallel()
	client := redis.NewClient(&redis.Options{})
	defer func() { require.NoError(t, client.Close()) }()
	for name, c := range map[string]StoreConfig{
		"zero":        {},
		"embedded":    {Embedded: true},
		"client":      {Client: client},
		"url":         {URL: "redis://localhost"},
		"tls":         {URL: "rediss://localhost", TLS: StoreTLS{ServerName: "x"}},
		"managed":     {Managed: &Managed{Folder: "data"}},
		"managed ram": {Managed: &Managed{Persistence: PersistNone, MaxMemory: 64 << 20}},
	} {
		require.NoError(t, c.Validate(), name)
	}
	for name, c := range map[string]StoreConfig{
		"two ways":          {URL: "redis://localhost", Embedded: true},
		"client and url":    {URL: "redis://localhost", Client: client},
		"tls without url":   {TLS: StoreTLS{ServerName: "x"}},
		"tls not used":      {URL: "redis://localhost", TLS: StoreTLS{ServerName: "x"}},
		"cert without key":  {URL: "rediss://localhost", TLS: StoreTLS{CertFile: "x"}},
		"no folder":         {Managed: &Managed{}},
		"persistence":       {Managed: &Managed{Folder: "x", Persistence: "rdb"}},
		"memory":            {Managed: &Managed{Folder: "x", MaxMemory: 1}},
		"scheme":            {URL: "http://localhost"},
		"several hosts":     {URL: "redis://a,b"},
		"empty host":        {URL: "redis-cluster://a,,b"},
		"cluster db":        {URL: "redis-cluster://a/1"},
		"sentinel master":   {URL: "redis-sentinel://a,b"},
		"sentinel path":     {URL: "redis-sentinel://a,b/m/0/x"},
		"unix without path": {URL: "unix://"},
		"db":                {URL: "redis://localhost/x"},
		"option":            {URL: "redis://localhost?nonsense=1"},
		"no scheme":         {URL: "localhost:6379"},
	} {
		require.ErrorIs(t, c.Validate(), ErrStoreConfig, name)
	}
	m := &Managed{Folder: "x"}
	require.Equal(t, PersistAOF, StoreConfig{Managed: m}.WithDefaults().Managed.Persistence)
	require.Empty(t, m.Persistence, "the caller's struct is not changed")
	require.True(t, StoreConfig{}.WithDefaults().Embedded)
}

func TestStoreURLNeverShowsThePassword(t *testing.T) {
	t.Parallel()
	const secret = "sEcReT"
	for _, raw := range []string{
		"redis://u:sEcReT@h:1", "redis://u:sEcReT@h:1/x", "redis://u:sEcReT@h:x", "redis://u:1/sEcReT@h:1",
		"redis://u:a#sEcReT@h:1", "redis://u:a?sEcReT@h:1", "redis://u:%zzsEcReT@h:1", "redis://u:a b\x7fsEcReT@h",
		"redis://u:sEcReT@a,b", "redis-cluster://u:sEcReT@a,b:x", "redis-sentinel://u:sEcReT@a,b/",
		"redis-sentinel://u:p@a,b/?sentinel_password=sEcReT", "foo://u:sEcReT@h", "u:sEcReT@h:1", "redis://u:sEcReT@h:1?x=1",
		"sEcReT@://h", "redis://u:x@sEcReT@h:x",
	} {
		if err := (StoreConfig{URL: raw}).Validate(); err != nil {
			require.NotContains(t, err.Error(), secret, raw)
			continue
		}
		p, err := storeParseURL(raw, StoreTLS{})
		require.NoError(t, err)
		require.NotContains(t, p.address, secret, raw)
	}
}

func TestStoreParseURL(t *testing.T) {
	t.Parallel()
	p, err := storeParseURL("rediss://u%40x:p%2Fw@h/3?pool_size=4", StoreTLS{})
	require.NoError(t, err)
	require.Equal(t, []any{"h:6379", "u@x", "p/w", 3, 4}, []any{p.single.Addr, p.single.Username, p.single.Password, p.single.DB, p.single.PoolSize})
	require.NotNil(t, p.single.TLSConfig)
	require.Equal(t, "rediss://h/3", p.address)

	p, err = storeParseURL("unix://u:pw@/run/redis.sock?db=2", StoreTLS{})
	require.NoError(t, err)
	require.Equal(t, []any{"unix", "/run/redis.sock", "u", "pw", 2}, []any{p.single.Network, p.single.Addr, p.single.Username, p.single.Password, p.single.DB})

	p, err = storeParseURL("redis-cluster://u:pw@a,b:7000,[::1]:7001", StoreTLS{})
	require.NoError(t, err)
	require.Equal(t, []string{"a:6379", "b:7000", "[::1]:7001"}, p.cluster.Addrs)
	require.Equal(t, "pw", p.cluster.Password)
	require.Nil(t, p.cluster.TLSConfig)

	p, err = storeParseURL("rediss-sentinel://u:pw@a,b:1/main/5?sentinel_username=s&sentinel_password=t", StoreTLS{})
	require.NoError(t, err)
	o := p.failover
	require.Equal(t, []string{"a:26379", "b:1"}, o.SentinelAddrs)
	require.Equal(t, []any{"main", 5, "u", "pw", "s", "t"}, []any{o.MasterName, o.DB, o.Username, o.Password, o.SentinelUsername, o.SentinelPassword})
	require.NotNil(t, o.TLSConfig)
	require.Equal(t, "rediss-sentinel://a,b:1/main/5", p.address)
}

func TestStoreOwnClientsDoNotRetry(t *testing.T) {
	t.Parallel()
	for _, raw := range []string{"redis://h?max_retries=5", "redis-sentinel://h/m"} {
		s, err := storeOpenURL(StoreConfig{URL: raw})
		require.NoError(t, err)
		o := s.Client.(*redis.Client).Options()
		require.Zero(t, o.MaxRetries, "go-redis turns -1 into 0 once it has read it")
		require.True(t, o.ContextTimeoutEnabled)
		require.True(t, o.DisableIdentity)
		require.Equal(t, 1, o.DialerRetries)
		require.NoError(t, s.Close(context.Background()))
	}
}

func TestStoreUnreachable(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0") // accepts, but never answers
	require.NoError(t, err)
	defer func() { require.NoError(t, l.Close()) }()
	silent := l.Addr().String()
	gone, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, gone.Close())

	ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
	defer cancel()
	for _, url := range []string{
		"redis://u:sEcReT@" + silent, "redis-cluster://u:sEcReT@" + silent,
		"redis://u:sEcReT@" + gone.Addr().String(), "redis-cluster://u:sEcReT@" + gone.Addr().String(),
		"redis-sentinel://u:sEcReT@" + gone.Addr().String() + "/main", "unix://u:sEcReT@/does/not/exist.sock",
	} {
		_, err := OpenStore(ctx, StoreConfig{URL: url}, nil)
		require.ErrorIs(t, err, ErrStoreUnavailable, url)
		require.NotContains(t, err.Error(), "sEcReT")
		_, at, _ := strings.Cut(url, "@")
		require.ErrorContains(t, err, at)
	}
}

// storeFake answers every command of every connection with what reply says.
func storeFake(t *testing.T, reply func(command string) string) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer func() { _ = conn.Close() }()
				r := bufio.NewReader(conn)
				for {
					var n int
					if _, err := fmt.Fscanf(r, "*%d\r\n", &n); err != nil {
						return
					}
					command := ""
					for i := range n {
						var size int
						var word string
						if _, err := fmt.Fscanf(r, "$%d\r\n", &size); err != nil {
							return
						}
						if _, err := fmt.Fscanf(r, "%s\r\n", &word); err != nil {
							return
						}
						if i == 0 {
							command = strings.ToLower(word)
						}
					}
					if _, err := conn.Write([]byte(reply(command))); err != nil {
						return
					}
				}
			}()
		}
	}()
	return "redis://" + l.Addr().String()
}

func TestStoreVersionCheck(t *testing.T) {
	t.Parallel()
	server := func(info string) string {
		return storeFake(t, func(command string) string {
			switch command {
			case "ping":
				return "+PONG\r\n"
			case "info":
				if strings.HasPrefix(info, "-") {
					return info + "\r\n"
				}
				return fmt.Sprintf("$%d\r\n%s\r\n", len(info), info)
			}
			return "-ERR unknown command\r\n"
		})
	}
	open := func(info string) (*Store, string, error) {
		log := &storeLog{}
		s, err := OpenStore(context.Background(), StoreConfig{URL: server(info)}, log.logger())
		if err == nil {
			require.NoError(t, s.Close(context.Background()))
		}
		return s, log.String(), err
	}
	_, _, err := open("# Server\r\nredis_version:6.0.16\r\n")
	require.ErrorIs(t, err, ErrStoreVersion)
	require.ErrorContains(t, err, "6.0.16")

	s, log, err := open("redis_version:6.2.0\r\nmaxmemory_policy:noeviction\r\nrole:master\r\n")
	require.NoError(t, err)
	require.Equal(t, "6.2.0", s.Version)
	require.NotContains(t, log, "WARN")

	s, _, err = open("redis_version:7.2.4\r\nserver_name:valkey\r\nvalkey_version:8.1.0\r\n")
	require.NoError(t, err)
	require.Equal(t, "valkey 8.1.0", s.Version)

	_, log, err = open("-NOPERM this user has no permissions to run the 'info' command")
	require.NoError(t, err)
	require.Contains(t, log, "does not tell its version")

	_, log, err = open("redis_version:7.0.0\r\nmaxmemory_policy:allkeys-lru\r\nrole:slave\r\n")
	require.NoError(t, err)
	require.Contains(t, log, "noeviction")
	require.Contains(t, log, "replica")

	_, _, err = open("redis_version:7.0.0\r\nredis_mode:cluster\r\n")
	require.ErrorContains(t, err, "redis-cluster://")
}

func TestStoreWaitsForLoading(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	pings := 0
	url := storeFake(t, func(command string) string {
		mu.Lock()
		defer mu.Unlock()
		switch {
		case command == "ping" && pings < 2:
			pings++
			return "-LOADING Redis is loading the dataset in memory\r\n"
		case command == "ping":
			return "+PONG\r\n"
		case command == "info":
			return "$19\r\nredis_version:7.0.0\r\n"
		}
		return "-ERR unknown command\r\n"
	})
	s, err := OpenStore(context.Background(), StoreConfig{URL: url}, nil)
	require.NoError(t, err)
	require.NoError(t, s.Close(context.Background()))
}

func TestStoreOfTheCallerIsNotClosed(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, client redis.UniversalClient) {
		t.Parallel()
		s, err := OpenStore(context.Background(), StoreConfig{Client: client}, nil)
		require.NoError(t, err)
		require.Equal(t, StoreClient, s.Kind)
		require.NoError(t, s.Close(context.Background()))
		require.NoError(t, client.Ping(context.Background()).Err())
	})
}

func TestStoreEmbedded(t *testing.T) {
	t.Parallel()
	log := &storeLog{}
	ctx := context.Background()
	s, err := OpenStore(ctx, StoreConfig{}, log.logger())
	require.NoError(t, err)
	require.Equal(t, StoreEmbedded, s.Kind)
	require.Equal(t, 1, strings.Count(log.String(), "keeps nothing across restarts"))
	require.NoError(t, s.Client.Set(ctx, "k", "v", 0).Err())
	require.NoError(t, s.Close(ctx))
	require.NoError(t, s.Close(ctx))
	require.Error(t, s.Client.Ping(ctx).Err())
	other := storeOpen(t, StoreConfig{})
	require.Zero(t, other.Client.Exists(ctx, "k").Val())
}
