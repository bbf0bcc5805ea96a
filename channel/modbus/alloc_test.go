package modbus

import (
	"context"
	"net"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/voltageems/voltage/channel/channeltest"
)

// lean is a peer that answers with zeros and allocates nothing.
func lean(t testing.TB) (address string) {
	t.Helper()
	return script(t, func(c net.Conn) {
		q, a := make([]byte, 12), make([]byte, 0, 512)
		for {
			for n := 0; n < len(q); {
				k, err := c.Read(q[n:])
				if err != nil {
					return
				}
				n += k
			}
			a = append(a[:0], q[:8]...)
			a[5] = 3 + 2*q[11]
			a = append(a, 2*q[11])
			a = append(a, make([]byte, 2*int(q[11]))...)
			if _, err := c.Write(a); err != nil {
				return
			}
		}
	})
}

// A round costs no allocation, and none for a request, with the peer's work
// counted in.
func TestRoundAllocatesNothing(t *testing.T) {
	address := lean(t)
	for _, pipeline := range []int{1, 4} {
		clock := channeltest.NewClock(t)
		s := setup(spread(40)...)
		s.Clock = clock
		d := connected(t, TCP(address, Pipeline(pipeline)), s)
		read(t, d)
		perRound := testing.AllocsPerRun(50, func() {
			clock.Advance(s.Scan)
			_, err := d.Read(context.Background())
			require.NoError(t, err)
		})
		require.Less(t, perRound, 10.0, "40 requests a round")
		require.NoError(t, d.Close(context.Background()))
	}
}
