package scripts

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/voltageems/voltage/scripts/internal/redisproc"
)

// check waits until the server answers and looks at what it says of itself.
func (s *Store) check(ctx context.Context, log *slog.Logger) error {
	if err := s.ping(ctx); err != nil {
		return err
	}
	_, s.Cluster = s.Client.(*redis.ClusterClient)
	text, err := s.Client.Info(ctx).Result()
	if err != nil {
		if ctx.Err() != nil {
			return s.unavailable(err)
		}
		log.Warn("the store does not tell its version, assuming Redis 6.2 or later", "address", s.Address, "error", err)
		return nil
	}
	info := storeParseInfo(text)
	if info["redis_mode"] == "cluster" || info["server_mode"] == "cluster" { // the latter is Valkey's
		if !s.Cluster && s.Kind == StoreURL {
			return fmt.Errorf("%w: %s is a node of a cluster: use redis-cluster://", ErrStoreConfig, s.Address)
		}
		s.Cluster = true
	}
	if p := info["maxmemory_policy"]; p != "" && p != "noeviction" {
		log.Warn("the store may drop data when its memory is full; set maxmemory-policy noeviction",
			"address", s.Address, "policy", p)
	}
	if info["role"] == "slave" && !s.Cluster {
		log.Warn("the store is a read-only replica, writes will fail", "address", s.Address)
	}
	return s.checkVersion(info, log)
}

func (s *Store) checkVersion(info map[string]string, log *slog.Logger) error {
	if info["valkey_version"] != "" {
		// Every Valkey is later than Redis 7.2.
		s.Version = "valkey " + info["valkey_version"]
		return nil
	}
	v, err := redisproc.ParseVersion(info["redis_version"])
	if err != nil {
		log.Warn("the store does not tell its version, assuming Redis 6.2 or later", "address", s.Address, "error", err)
		return nil
	}
	s.Version = info["redis_version"]
	if !v.AtLeast(6, 2) {
		return fmt.Errorf("%w: %s is Redis %s", ErrStoreVersion, s.Address, s.Version)
	}
	return nil
}

// ping returns nil once the server takes commands. A server that is loading its
// data is waited for.
func (s *Store) ping(ctx context.Context) error {
	for {
		err := s.Client.Ping(ctx).Err()
		switch {
		case err == nil, redis.HasErrorPrefix(err, "NOPERM"):
			return nil
		case !redis.HasErrorPrefix(err, "LOADING"):
			return s.unavailable(err)
		}
		if !storeWait(ctx, storeRetry) {
			return s.unavailable(err)
		}
	}
}

func (s *Store) unavailable(err error) error {
	return fmt.Errorf("%w: %s: %w", ErrStoreUnavailable, s.Address, err)
}

// storeParseInfo reads the "name:value" lines of INFO.
func storeParseInfo(text string) map[string]string {
	info := map[string]string{}
	for line := range strings.Lines(text) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), ":"); ok {
			info[name] = value
		}
	}
	return info
}

// storeWait waits for d; it returns false when ctx ends before.
func storeWait(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
