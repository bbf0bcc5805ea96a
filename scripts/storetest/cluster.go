package storetest

import (
	"context"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"
)

// Cluster starts a Redis Cluster of three masters for this test alone and
// returns the addresses of its nodes. It ends with the test. Without the binary
// as [Redis].
func Cluster(t testing.TB) []string {
	t.Helper()
	const nodes, slots = 3, 16384
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	var addrs []string
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatalf("cluster: %v", err)
		}
	}
	for i := range nodes {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		must(err)
		bus := l.Addr().(*net.TCPAddr).Port
		must(l.Close())
		n := Own(t, "--cluster-enabled", "yes", "--cluster-port", fmt.Sprint(bus))
		addrs = append(addrs, n.Addr)
		c := Client(t, n.URL)
		must(c.Do(ctx, "CLUSTER", "ADDSLOTSRANGE", i*slots/nodes, (i+1)*slots/nodes-1).Err())
		if i > 0 {
			host, port, err := net.SplitHostPort(n.Addr)
			must(err)
			must(Client(t, "redis://"+addrs[0]).Do(ctx, "CLUSTER", "MEET", host, port, bus).Err())
		}
	}
	for _, addr := range addrs {
		c := Client(t, "redis://"+addr)
		for !strings.Contains(c.ClusterInfo(ctx).Val(), "cluster_state:ok") {
			select {
			case <-ctx.Done():
				t.Fatalf("cluster: node %s did not become ready", addr)
			case <-time.After(20 * time.Millisecond):
			}
		}
	}
	return addrs
}
