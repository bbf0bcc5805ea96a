package storetest

import (
	"context"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// clusterTimeout bounds everything that waits for a cluster or for Sentinels.
const clusterTimeout = 60 * time.Second

// When a node that does not answer counts as dead, in ms: long, for a machine
// that is busy must not cause a fail-over, and short while a test wants one. It
// is short at the beginning too, for news travel at that pace.
const (
	clusterPatient = 60_000
	clusterHasty   = 500
)

// Nodes is a Redis Cluster of one test's own, on the loopback interface. Nodes
// end with the test. Its methods are for one goroutine at a time; they fail the
// test on errors.
type Nodes struct {
	// Masters are the first owners of a third of the slots each, in their order;
	// Replicas has as many of each, those of the first master first.
	Masters, Replicas []*Server

	t    testing.TB
	each int // replicas of each master
}

// Cluster starts a Redis Cluster of three masters for this test alone and
// returns the addresses of its nodes. It ends with the test. Without the binary
// as [Redis].
func Cluster(t testing.TB) []string {
	t.Helper()
	return StartCluster(t, 0).Addrs()
}

// StartCluster starts a Redis Cluster of three masters with some replicas each
// for this test alone. args are given to every node. Without the binary as
// [Redis].
func StartCluster(t testing.TB, replicas int, args ...string) *Nodes {
	t.Helper()
	const masters, slots = 3, 16384
	c := &Nodes{t: t, each: replicas}
	for i := range masters {
		n := startNode(t, args)
		c.Masters = append(c.Masters, n)
		c.do(n, "CLUSTER", "ADDSLOTSRANGE", i*slots/masters, (i+1)*slots/masters-1)
	}
	for range masters * replicas {
		c.Replicas = append(c.Replicas, startNode(t, args))
	}
	// Every node is told of every other: hearsay would take seconds. Their epochs
	// differ from the beginning: while nodes settle which is whose, they refuse a
	// replica that wants to take over.
	for i, n := range c.All() {
		c.do(n, "CLUSTER", "SET-CONFIG-EPOCH", i+1)
	}
	for i, n := range c.All() {
		host, port, bus := n.busAddress()
		for _, other := range c.All()[:i] {
			c.do(other, "CLUSTER", "MEET", host, port, bus)
		}
	}
	for _, n := range c.All() {
		c.until("the node knows the others", n, func(r redis.UniversalClient, ctx context.Context) bool {
			return knows(r, ctx, len(c.All()), 0)
		})
	}
	for i, n := range c.Replicas {
		c.do(n, "CLUSTER", "REPLICATE", c.ID(c.Masters[i/replicas]))
	}
	for _, n := range c.All() {
		c.until("the node is ready", n, func(r redis.UniversalClient, ctx context.Context) bool {
			return strings.Contains(r.ClusterInfo(ctx).Val(), "cluster_state:ok") && knows(r, ctx, len(c.All()), len(c.Replicas))
		})
	}
	for _, n := range c.Replicas {
		c.until("the replica follows", n, func(r redis.UniversalClient, ctx context.Context) bool {
			return infoField(r, ctx, "master_link_status") == "up"
		})
	}
	// From now on a machine that is busy must not make a node look dead.
	c.setTimeout(c.All(), clusterPatient)
	return c
}

// knows reports whether a node knows all nodes and all replicas among them.
func knows(r redis.UniversalClient, ctx context.Context, nodes, replicas int) bool {
	for line := range strings.Lines(r.ClusterNodes(ctx).Val()) {
		f := strings.Fields(line)
		if len(f) < 3 || strings.Contains(f[2], "handshake") {
			return false
		}
		nodes--
		if strings.Contains(f[2], "slave") {
			replicas--
		}
	}
	return nodes == 0 && replicas == 0
}

// setTimeout sets when a node that does not answer counts as dead, in ms.
func (c *Nodes) setTimeout(nodes []*Server, ms int) {
	c.t.Helper()
	for _, n := range nodes {
		c.do(n, "CONFIG", "SET", "cluster-node-timeout", fmt.Sprint(ms))
	}
}

func startNode(t testing.TB, args []string) *Server {
	t.Helper()
	binary := find(t, "redis-server", os.Getenv("VOLTAGE_CI") == "1")
	s := &Server{t: t, binary: binary, folder: t.TempDir()}
	t.Cleanup(func() {
		if s.proc != nil {
			s.Kill()
		}
	})
	var err error
	for range startAttempts { // the port of the cluster bus may be taken too
		var l net.Listener
		if l, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
			break
		}
		bus := l.Addr().(*net.TCPAddr).Port
		if err = l.Close(); err != nil {
			break
		}
		s.args = append([]string{"--cluster-enabled", "yes", "--cluster-port", fmt.Sprint(bus), "--cluster-allow-replica-migration", "no",
			"--cluster-node-timeout", fmt.Sprint(clusterHasty), "--repl-diskless-sync-delay", "0"}, args...)
		if err = s.startFree(); err == nil {
			return s
		}
	}
	t.Fatalf("start a node of a cluster: %v", err)
	return nil
}

func (s *Server) busAddress() (host, port, bus string) {
	host, port, _ = net.SplitHostPort(s.Addr)
	return host, port, s.args[slices.Index(s.args, "--cluster-port")+1]
}

// All returns every node, masters first.
func (c *Nodes) All() []*Server { return slices.Concat(c.Masters, c.Replicas) }

// Addrs returns the addresses of all nodes.
func (c *Nodes) Addrs() []string {
	var list []string
	for _, n := range c.All() {
		list = append(list, n.Addr)
	}
	return list
}

// URL is the store's URL, redis-cluster://…
func (c *Nodes) URL() string { return "redis-cluster://" + strings.Join(c.Addrs(), ",") }

// ID returns the id that the cluster has given to a node.
func (c *Nodes) ID(n *Server) string {
	c.t.Helper()
	return fmt.Sprint(c.do(n, "CLUSTER", "MYID"))
}

// Slot returns the slot of a key.
func (c *Nodes) Slot(key string) int {
	c.t.Helper()
	slot, ok := c.do(c.Masters[0], "CLUSTER", "KEYSLOT", key).(int64)
	if !ok {
		c.t.Fatalf("CLUSTER KEYSLOT %s: no number", key)
	}
	return int(slot)
}

// Owner returns the place in Masters of the first owner of a key.
func (c *Nodes) Owner(key string) int {
	c.t.Helper()
	slot := c.Slot(key)
	for i := range c.Masters {
		if slot < (i+1)*16384/len(c.Masters) {
			return i
		}
	}
	c.t.Fatalf("slot %d of key %s is nobody's", slot, key)
	return 0
}

// SiteOn returns the name of a site whose keys belong to a master, by its place.
func (c *Nodes) SiteOn(master int) string {
	c.t.Helper()
	for {
		if site := Site(c.t); c.Owner("{"+site+"}:anchor") == master {
			return site
		}
	}
}

// CaughtUp waits until the replica of a master, by its place, has everything.
func (c *Nodes) CaughtUp(master int) {
	c.t.Helper()
	caughtUp(c.t, c.Masters[master], c.replica(master))
}

// Promoted waits until the replica of a master that was killed has taken over
// and every other node knows. It returns the new master; Masters stays as it
// was. The old one may be started again and follows the new one then.
func (c *Nodes) Promoted(master int) *Server {
	c.t.Helper()
	replica := c.replica(master)
	id := c.ID(replica)
	var rest []*Server
	for _, n := range c.All() {
		if n != c.Masters[master] {
			rest = append(rest, n)
		}
	}
	c.setTimeout(rest, clusterHasty)
	for _, n := range rest {
		c.until("the replica has taken over", n, func(r redis.UniversalClient, ctx context.Context) bool {
			return strings.Contains(r.ClusterInfo(ctx).Val(), "cluster_state:ok") && owns(r.ClusterNodes(ctx).Val(), id)
		})
	}
	c.setTimeout(rest, clusterPatient)
	return replica
}

func (c *Nodes) replica(master int) *Server {
	c.t.Helper()
	if c.each != 1 {
		c.t.Fatal("the cluster has not one replica for each master")
	}
	return c.Replicas[master]
}

// Reshard moves the slot of a key to another master, by its place, as an
// operator does it under load: one key after the other, in the order that sort
// gives them. between is called after every step.
func (c *Nodes) Reshard(key string, to int, sort func(keys []string), between func()) {
	c.t.Helper()
	slot, source, target := c.Slot(key), c.Masters[c.Owner(key)], c.Masters[to]
	host, port, _ := target.busAddress()
	c.do(target, "CLUSTER", "SETSLOT", slot, "IMPORTING", c.ID(source))
	c.do(source, "CLUSTER", "SETSLOT", slot, "MIGRATING", c.ID(target))
	between()
	for {
		left, ok := c.do(source, "CLUSTER", "GETKEYSINSLOT", slot, 100_000).([]any)
		if !ok {
			c.t.Fatal("CLUSTER GETKEYSINSLOT: no list")
		}
		if len(left) == 0 {
			break
		}
		keys := make([]string, len(left))
		for i, k := range left {
			keys[i] = fmt.Sprint(k)
		}
		sort(keys)
		for _, k := range keys {
			c.do(source, "MIGRATE", host, port, k, 0, 10_000)
			between()
		}
	}
	for _, n := range append([]*Server{target, source}, c.All()...) {
		if !slices.Contains(c.Replicas, n) {
			c.do(n, "CLUSTER", "SETSLOT", slot, "NODE", c.ID(target))
			between()
		}
	}
}

// owns reports whether a node is a master with slots in the text of CLUSTER NODES.
func owns(text, id string) bool {
	for line := range strings.Lines(text) {
		if f := strings.Fields(line); len(f) > 8 && f[0] == id && strings.Contains(f[2], "master") {
			return true
		}
	}
	return false
}

func (c *Nodes) do(n *Server, args ...any) any {
	c.t.Helper()
	return do(c.t, n.Addr, args...)
}

func (c *Nodes) until(what string, n *Server, ok func(redis.UniversalClient, context.Context) bool) {
	c.t.Helper()
	until(c.t, what, n.Addr, ok)
}

// do runs a command on one server and fails the test on an error.
func do(t testing.TB, addr string, args ...any) any {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), clusterTimeout)
	defer cancel()
	c := Client(t, "redis://"+addr)
	defer c.Close()
	v, err := c.Do(ctx, args...).Result()
	if err != nil {
		t.Fatalf("%s: %v: %v", addr, args, err)
	}
	return v
}

// until polls what only the server can make true.
func until(t testing.TB, what, addr string, ok func(redis.UniversalClient, context.Context) bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), clusterTimeout)
	defer cancel()
	c := Client(t, "redis://"+addr)
	defer c.Close()
	for !ok(c, ctx) {
		select {
		case <-ctx.Done():
			t.Fatalf("%s: waited in vain: %s", addr, what)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// caughtUp waits until a replica has everything that its master has.
func caughtUp(t testing.TB, master, replica *Server) {
	t.Helper()
	until(t, "the replica has everything", master.Addr, func(m redis.UniversalClient, ctx context.Context) bool {
		r := Client(t, replica.URL)
		defer r.Close()
		has := infoField(r, ctx, "slave_repl_offset")
		return has != "" && has == infoField(m, ctx, "master_repl_offset") && infoField(r, ctx, "master_link_status") == "up"
	})
}

func infoField(c redis.UniversalClient, ctx context.Context, name string) string {
	for line := range strings.Lines(c.Info(ctx, "replication").Val()) {
		if value, ok := strings.CutPrefix(strings.TrimSpace(line), name+":"); ok {
			return value
		}
	}
	return ""
}
