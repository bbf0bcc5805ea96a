package server

import (
	"crypto/tls"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/voltageems/voltage/internal/testcert"
)

// A write that waited behind another one is told so; one that was sent after the
// answer is not.
func TestWaited(t *testing.T) {
	t.Parallel()
	for _, secure := range []bool{false, true} {
		m := newHeldMemory()
		cfg := Config{Units: map[byte]Handler{1: m}}
		connect := dial
		if secure {
			ca := testcert.NewCA(t)
			cert := ca.Issue(t, testcert.Spec{Hosts: []string{"127.0.0.1"}})
			cfg.TLS = &tls.Config{Certificates: []tls.Certificate{cert.Certificate}, ClientCAs: ca.Pool}
			connect = func(t *testing.T, addr string) net.Conn {
				return tls.Client(dial(t, addr), &tls.Config{RootCAs: ca.Pool, ServerName: "127.0.0.1", Certificates: []tls.Certificate{cert.Certificate}})
			}
		}
		_, addr := start(t, cfg)
		c := connect(t, addr)
		const frame = "0001 0000 0006 01 06 0000 0001"
		const apart = 6 * slowRequest
		send(t, c, frame)
		<-m.entered
		begun := time.Now()
		for range 100 {
			send(t, c, frame)
		}
		for range 3 { // each waits for those before it
			passed(t, begun, apart)
			m.leave <- struct{}{}
			expect(t, c, frame)
			require.Greater(t, <-m.entered, apart)
		}
		for range 98 {
			m.leave <- struct{}{}
			expect(t, c, frame)
			if len(m.entered) > 0 {
				<-m.entered
			}
		}

		// One that took long does not make the next one old.
		c = connect(t, addr)
		for len(m.entered) > 0 {
			<-m.entered
		}
		send(t, c, frame)
		<-m.entered
		passed(t, time.Now(), apart)
		left := time.Now()
		m.leave <- struct{}{}
		expect(t, c, frame)
		send(t, c, frame)
		late := <-m.entered
		require.Less(t, late, time.Since(left))
		m.leave <- struct{}{}
		expect(t, c, frame)
	}
}
