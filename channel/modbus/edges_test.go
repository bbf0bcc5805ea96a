package modbus

import (
	"context"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"

	gb "github.com/goburrow/modbus"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/voltageems/voltage/channel"
	"github.com/voltageems/voltage/channel/modbus/server"
	"github.com/voltageems/voltage/model"
)

// piped makes a driver whose connection is a pipe: what the peer writes at once
// is read at once, and not together with what it writes next.
func piped(t *testing.T, bus *Bus, serve func(net.Conn), points ...model.Point) *driver {
	t.Helper()
	done := make(chan struct{}, 1)
	bus.line.dial = func(context.Context) (net.Conn, error) {
		near, far := net.Pipe()
		go func() {
			serve(far)
			_ = far.Close()
			done <- struct{}{}
		}()
		return near, nil
	}
	d := connected(t, bus.Unit(1), setup(points...))
	t.Cleanup(func() {
		_ = d.Close(context.Background())
		<-done
	})
	return d
}

// An answer may come in any two pieces.
func TestAnswerSplitAnywhere(t *testing.T) {
	t.Parallel()
	const size = 9 + 8 // of the answer with TCP; 4 less with RTU
	t.Run("tcp", func(t *testing.T) {
		t.Parallel()
		d := piped(t, NewBus("host"), func(c net.Conn) {
			for k := 0; ; k++ {
				q := request(c)
				if q == nil {
					return
				}
				a := answer(q, 0x0012)
				a[9], a[10] = 0, 0 // or the number would be too large
				at := 1 + k%(len(a)-1)
				_, _ = c.Write(a[:at])
				_, _ = c.Write(a[at:])
			}
		}, point("a", "holding:1:uint64"))
		for range size {
			assert.Equal(t, good("a", 0x0012_0012_0012), read(t, d)["a"])
		}
	})
	t.Run("rtu", func(t *testing.T) {
		t.Parallel()
		d := piped(t, NewRTUOverTCPBus("host"), func(c net.Conn) {
			q := make([]byte, 8)
			for k := 0; ; k++ {
				if _, err := io.ReadFull(c, q); err != nil {
					return
				}
				a := appendRTU(nil, 1, &gb.ProtocolDataUnit{FunctionCode: 3, Data: []byte{8, 0, 0, 0, 0, 0x12, 0x34, 0x56, 0x78}})
				at := 1 + k%(len(a)-1)
				_, _ = c.Write(a[:at])
				_, _ = c.Write(a[at:])
			}
		}, point("a", "holding:1:uint64"))
		for range size {
			assert.Equal(t, good("a", 0x12345678), read(t, d)["a"])
		}
	})
}

// The answer to the next request may come along with that to this one only
// where it has a number: what else comes is nobody's.
func TestAnswersInOnePiece(t *testing.T) {
	t.Parallel()
	d := piped(t, NewBus("host"), func(c net.Conn) {
		for value := uint16(1); ; value += 2 {
			q := request(c)
			if q == nil {
				return
			}
			_, _ = c.Write(append(answer(q, value), answer(q, value+1)...)) // the second has the number of the first
		}
	}, point("a", "holding:1"))
	for _, want := range []float64{1, 3, 5, 7} {
		assert.Equal(t, good("a", want), read(t, d)["a"])
	}
}

// The last addresses, the largest requests, and the units at both ends.
func TestEdges(t *testing.T) {
	t.Parallel()
	for _, unit := range []byte{0, 1, 247, 248, 255} {
		t.Run(fmt.Sprint(unit), func(t *testing.T) {
			t.Parallel()
			dev := newDevice(t, unit)
			m := dev.units[unit]
			var points []model.Point
			for n := 65535 - 249; n <= 65535; n++ {
				m.SetRegisters(server.HoldingRegister, uint16(n), uint16(n))
				points = append(points, point(fmt.Sprint(n), fmt.Sprintf("holding:%d", n)))
			}
			for n := 65535 - 3999; n <= 65535; n++ {
				m.SetBits(server.Coil, uint16(n), n%2 == 1)
			}
			points = append(points, point("double", "holding:65532:uint64"), control("w", "coil:65535"))
			for n := 65535 - 3999; n < 65535; n += 7 {
				points = append(points, point(fmt.Sprintf("coil%d", n), fmt.Sprintf("coil:%d", n)))
			}
			d := connected(t, TCP(dev.address, Unit(int(unit))), setup(points...))
			dev.requests()
			got := read(t, d)
			for n := 65535 - 249; n <= 65535; n++ {
				require.Equal(t, good(fmt.Sprint(n), float64(n)), got[fmt.Sprint(n)])
			}
			assert.Equal(t, model.Overflow, got["double"].Quality)
			assert.Equal(t, good("w", 1), got["w"])
			for id, s := range got {
				if n, ok := strings.CutPrefix(id, "coil"); ok {
					require.Equal(t, good(id, float64((n[len(n)-1]-'0')%2)), s)
				}
			}
			for _, r := range dev.requests() {
				assert.LessOrEqual(t, int(r.Address)+int(r.Quantity), 1<<16)
				assert.LessOrEqual(t, r.Quantity, uint16(2000))
				assert.True(t, r.Table == server.Coil || r.Quantity <= 125, "%+v", r)
			}
			out, err := write(d, "w", 0)
			require.NoError(t, err)
			assert.Equal(t, channel.Done, out.Result)
			assert.Equal(t, good("w", 0), read(t, d)["w"])
		})
	}
}

func TestIPv6(t *testing.T) {
	t.Parallel()
	srv, err := server.New(server.Config{Units: map[byte]server.Handler{1: newDevice(t, 1).units[1]}})
	require.NoError(t, err)
	address, err := srv.Listen(context.Background(), "[::1]:0")
	if err != nil {
		t.Skipf("no IPv6 here: %v", err)
	}
	t.Cleanup(func() { _ = srv.Close(context.Background()) })
	d := connected(t, TCP(address.String()), setup(point("a", "holding:3")))
	assert.Equal(t, good("a", 3), read(t, d)["a"])
}
