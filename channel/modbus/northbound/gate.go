package northbound

import (
	"sync"

	"github.com/voltageems/voltage/channel/modbus/server"
)

const (
	// maxWrites is how many writes of all clients are under way at the same time.
	maxWrites = 64
	// maxClientWrites is how many of one address are: a client that writes to dead
	// devices must not keep the others from writing.
	maxClientWrites = 16
)

// gate bounds what is written at the same time. Nobody waits at it: what cannot
// begin now is answered as busy, for nobody knows how long the others take.
type gate struct {
	mu      sync.Mutex
	all     int
	clients map[string]int // by address
	points  map[*point]int // how many writes are under way; -1 for a mask
}

// enter begins a write of points; leave ends it. A mask is alone at its point, for
// it changes what is there.
func (g *gate) enter(client string, orders []order, mask bool) (leave func(), err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.all >= maxWrites || g.clients[client] >= maxClientWrites {
		return nil, server.Busy
	}
	for _, o := range orders {
		if n := g.points[o.point]; n < 0 || n > 0 && mask {
			return nil, server.Busy
		}
	}
	if g.clients == nil {
		g.clients, g.points = map[string]int{}, map[*point]int{}
	}
	step := 1
	if mask {
		step = -1
	}
	g.count(client, orders, 1, step)
	return func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		g.count(client, orders, -1, -step)
	}, nil
}

func (g *gate) count(client string, orders []order, one, step int) {
	g.all += one
	if g.clients[client] += one; g.clients[client] == 0 {
		delete(g.clients, client)
	}
	for _, o := range orders {
		if g.points[o.point] += step; g.points[o.point] == 0 {
			delete(g.points, o.point)
		}
	}
}
