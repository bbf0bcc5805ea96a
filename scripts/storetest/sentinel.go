package storetest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/voltageems/voltage/scripts/internal/redisproc"
)

const (
	sentinelMaster = "main" // the name of the master
	sentinels      = 3
	// patient is when a master that does not answer counts as dead, unless a
	// test kills it: a machine that is busy must not cause a fail-over.
	patient = 60_000
	// hasty is the same once it is killed, in ms.
	hasty = 300
)

// Failover is a master, its replica and three Sentinels that look after them, of
// one test's own, on the loopback interface. They end with the test. Its methods
// are for one goroutine at a time; they fail the test on errors.
type Failover struct {
	// URL is the store's, redis-sentinel://…
	URL string
	// Master takes the writes now; Replica follows it.
	Master, Replica *Server

	t     testing.TB
	addrs []string // of the Sentinels
}

// Sentinel starts a redis-server, a replica of it and three Sentinels that agree
// by majority. Without the binary as [Redis].
func Sentinel(t testing.TB) *Failover {
	t.Helper()
	const soon = "0"
	f := &Failover{t: t, Master: Own(t, "--repl-diskless-sync-delay", soon)}
	host, port := f.masterAddress()
	f.Replica = Own(t, "--repl-diskless-sync-delay", soon, "--replicaof", host, port)
	caughtUp(t, f.Master, f.Replica)
	for i := range sentinels {
		f.addrs = append(f.addrs, f.startSentinel(i))
	}
	f.URL = "redis-sentinel://" + strings.Join(f.addrs, ",") + "/" + sentinelMaster
	for _, addr := range f.addrs {
		until(t, "the Sentinels know each other and the replica", addr, func(c redis.UniversalClient, ctx context.Context) bool {
			m := sentinelState(c, ctx)
			return m["num-slaves"] == "1" && m["num-other-sentinels"] == fmt.Sprint(sentinels-1) &&
				c.Do(ctx, "SENTINEL", "CKQUORUM", sentinelMaster).Err() == nil
		})
	}
	return f
}

func (f *Failover) masterAddress() (host, port string) {
	f.t.Helper()
	host, port, err := net.SplitHostPort(f.Master.Addr)
	if err != nil {
		f.t.Fatal(err)
	}
	return host, port
}

// startSentinel starts one Sentinel and returns its address.
func (f *Failover) startSentinel(i int) string {
	f.t.Helper()
	host, masterPort := f.masterAddress()
	var err error
	for range startAttempts { // another process may take the free port first
		var addr string
		if addr, err = trySentinel(f.t, fmt.Sprintf("s%d", i), host, masterPort); err == nil {
			return addr
		}
	}
	f.t.Fatalf("start a Sentinel: %v", err)
	return ""
}

func trySentinel(t testing.TB, name, host, masterPort string) (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	addr := l.Addr().String()
	if err := l.Close(); err != nil {
		return "", err
	}
	dir := t.TempDir()
	conf := filepath.Join(dir, name+".conf")
	_, port, _ := net.SplitHostPort(addr)
	text := fmt.Sprintf("bind 127.0.0.1\nport %s\ndir \"%s\"\nsentinel monitor %s %s %s %d\nsentinel down-after-milliseconds %s %d\n"+
		"sentinel failover-timeout %s 3000\n", port, dir, sentinelMaster, host, masterPort, sentinels/2+1, sentinelMaster, patient, sentinelMaster)
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		return "", err
	}
	// A Sentinel keeps what it learns in its configuration, which has to be a
	// file. A Process puts "-" first, for a configuration on the standard input;
	// env takes that for an empty environment.
	env, err := exec.LookPath("env")
	if err != nil {
		return "", err
	}
	proc, err := redisproc.Start(redisproc.Options{Binary: env, ParentDeath: syscall.SIGKILL,
		Args: []string{find(t, "redis-server", false), conf, "--sentinel"}})
	if err != nil {
		return "", err
	}
	t.Cleanup(func() {
		_ = proc.Signal(syscall.SIGKILL)
		<-proc.Done()
	})
	c := Client(t, "redis://"+addr)
	defer c.Close()
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	for ctx.Err() == nil {
		select {
		case <-proc.Done():
			return "", proc.Ended()
		case <-time.After(10 * time.Millisecond):
		}
		if strings.Contains(c.Info(ctx, "server").Val(), "_mode:sentinel") { // redis_mode, server_mode with Valkey
			return addr, nil
		}
	}
	return "", errors.Join(errors.New("the Sentinel does not answer"), ctx.Err())
}

func sentinelState(c redis.UniversalClient, ctx context.Context) map[string]string {
	list, _ := c.Do(ctx, "SENTINEL", "MASTER", sentinelMaster).StringSlice()
	m := map[string]string{}
	for i := 0; i+1 < len(list); i += 2 {
		m[list[i]] = list[i+1]
	}
	return m
}

// CaughtUp waits until the replica has everything that the master has.
func (f *Failover) CaughtUp() {
	f.t.Helper()
	caughtUp(f.t, f.Master, f.Replica)
}

// Cut ends the replication: what the master takes from now on is lost with it.
func (f *Failover) Cut() { f.t.Helper(); Cut(f.t, f.Master, f.Replica) }

// Cut ends the replication between two servers for good: what the master takes
// from now on is lost with it.
func Cut(t testing.TB, master, replica *Server) {
	t.Helper()
	do(t, master.Addr, "ACL", "SETUSER", "default", "-psync", "-sync")
	do(t, master.Addr, "CLIENT", "KILL", "TYPE", "replica")
	until(t, "the replica has lost its master", replica.Addr, func(c redis.UniversalClient, ctx context.Context) bool {
		return infoField(c, ctx, "master_link_status") == "down"
	})
}

// Kill kills the master.
func (f *Failover) Kill() { f.t.Helper(); f.Master.Kill() }

// Promoted has the Sentinels notice that the master is dead, and waits until the
// replica is the master for all of them. Master and Replica have changed places
// then.
func (f *Failover) Promoted() {
	f.t.Helper()
	for _, addr := range f.addrs {
		do(f.t, addr, "SENTINEL", "SET", sentinelMaster, "down-after-milliseconds", fmt.Sprint(hasty))
	}
	for _, addr := range f.addrs {
		until(f.t, "the replica is promoted", addr, func(c redis.UniversalClient, ctx context.Context) bool {
			now, _ := c.Do(ctx, "SENTINEL", "GET-MASTER-ADDR-BY-NAME", sentinelMaster).StringSlice()
			return len(now) == 2 && net.JoinHostPort(now[0], now[1]) == f.Replica.Addr
		})
		do(f.t, addr, "SENTINEL", "SET", sentinelMaster, "down-after-milliseconds", fmt.Sprint(patient))
	}
	until(f.t, "the new master is one", f.Replica.Addr, func(c redis.UniversalClient, ctx context.Context) bool {
		return infoField(c, ctx, "role") == "master"
	})
	f.Master, f.Replica = f.Replica, f.Master
}

// Rejoin starts the old master again, at its old address, as the replica of the
// new one, and waits until it has everything.
func (f *Failover) Rejoin() {
	f.t.Helper()
	host, port := f.masterAddress()
	f.Replica.args = []string{"--repl-diskless-sync-delay", "0", "--replicaof", host, port}
	f.Replica.Restart()
	f.CaughtUp()
	for _, addr := range f.addrs {
		until(f.t, "the Sentinels know the replica again", addr, func(c redis.UniversalClient, ctx context.Context) bool {
			list, err := c.Do(ctx, "SENTINEL", "REPLICAS", sentinelMaster).Slice()
			if err != nil || len(list) != 1 {
				return false
			}
			return strings.Contains(fmt.Sprint(list[0]), "flags slave ") && strings.Contains(fmt.Sprint(list[0]), "master-link-status ok")
		})
	}
}
