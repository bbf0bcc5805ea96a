package server

import (
	"net"
	"sync/atomic"
)

// client is the one of a connection.
type client struct {
	host string
	last atomic.Int64 // when its last request came in, or it connected; Unix ns
}

func host(a net.Addr) string {
	if tcp, ok := a.(*net.TCPAddr); ok {
		return tcp.AddrPort().Addr().Unmap().String()
	}
	return a.String()
}

// surplus returns the connection that goes so that one from a host gets its place:
// of the host with the most, the one that asked nothing for the longest. It is nil
// where no host has two more than this one, so that none pushes out another that has
// no more than its share. s.mu is held.
func (s *Server) surplus(from string) net.Conn {
	count := map[string]int{}
	most := from
	for _, c := range s.conns {
		if count[c.host]++; count[c.host] > count[most] {
			most = c.host
		}
	}
	if count[most] < count[from]+2 {
		return nil
	}
	var out net.Conn
	for conn, c := range s.conns {
		if c.host == most && (out == nil || c.last.Load() < s.conns[out].last.Load()) {
			out = conn
		}
	}
	return out
}
