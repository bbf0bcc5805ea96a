package modbus

import (
	"net"
	"testing"
	"time"

	gb "github.com/goburrow/modbus"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/voltageems/voltage/channel"
	"github.com/voltageems/voltage/model"
)

// A device announces a longer answer than it sends, and the next frame completes
// it: the header of that must not become values.
func TestAnswerCompletedByAnotherIsNotBelieved(t *testing.T) {
	t.Parallel()
	send := func(c net.Conn, cut int, answer, next []byte) {
		_, _ = c.Write(append(answer[:len(answer)-cut:len(answer)-cut], next...))
	}
	for name, answers := range map[string]func(c net.Conn, first, second []byte){
		// The answer to the first request comes behind the cut one to the second.
		"late":         func(c net.Conn, first, second []byte) { send(c, 3, second, first) },
		"more is lost": func(c net.Conn, first, second []byte) { send(c, 4, second, first) },
		"twice":        func(c net.Conn, _, second []byte) { send(c, 2, second, second) },
	} {
		address := script(t, func(c net.Conn) {
			first := request(c)
			second := request(c)
			if second == nil {
				return
			}
			answers(c, answer(first, 0x4002), answer(second, 0x4002))
			for q := request(c); q != nil; q = request(c) {
				_, _ = c.Write(answer(q, 0x4002))
			}
		})
		s := setup(point("a", "holding:10:int32"))
		s.Timeout = 300 * time.Millisecond
		d := connected(t, TCP(address, Retries(1)), s)
		samples, err := d.Read(t.Context())
		for _, sample := range samples {
			if sample.Quality == model.Good {
				assert.Equal(t, float64(0x40024002), sample.Value, name)
			}
		}
		if err != nil {
			require.ErrorIs(t, err, channel.ErrNotConnected, name)
		} else {
			require.NotEqual(t, model.Good, samples[0].Quality, name)
		}
	}
}

// While the answer to an earlier request may come, one that came in pieces is
// believed only after a look at what follows.
func TestAnswerInPieces(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		owed     bool
		more     []byte // of a frame whose first bytes completed the answer
		believed bool
	}{
		"nothing owed":            {believed: true},
		"nothing follows":         {owed: true, believed: true},
		"another completed it":    {owed: true, more: []byte{0, 0, 5, 1, 3, 2, 0, 9}},
		"another one comes whole": {owed: true, more: []byte{0, 0, 0, 0, 0, 5, 1, 3, 2, 0, 9}, believed: true},
	} {
		ours, theirs := net.Pipe()
		done := make(chan struct{})
		go func() {
			defer close(done)
			defer theirs.Close()
			a := answer(request(theirs), 7)
			_, _ = theirs.Write(a[:8]) // returns when it was read
			_, _ = theirs.Write(a[8:])
			if c.more != nil {
				_, _ = theirs.Write(c.more)
			}
			_, _ = theirs.Read(make([]byte, 1)) // until the end
		}()
		conn := newConn(ours)
		conn.issued = 1 << 15 // 0 was a transaction
		if c.owed {
			conn.owed = time.Now()
		}
		asks := []ask{{request: gb.ProtocolDataUnit{FunctionCode: 3, Data: appendRead(nil, 1, 1)}}}
		_, err := conn.exchange(t.Context(), 10*time.Second, 1, asks, false)
		if c.believed {
			require.NoError(t, err, name)
			require.NoError(t, asks[0].err, name)
			require.Equal(t, []byte{0, 7}, asks[0].data, name)
		} else {
			require.ErrorIs(t, err, channel.ErrNotConnected, name)
			require.False(t, asks[0].done, name)
		}
		require.NoError(t, ours.Close())
		<-done
	}
}

// What follows a frame is looked at as far as it is there.
func TestWhatFollowsAFrame(t *testing.T) {
	t.Parallel()
	for stream, want := range map[string]bool{
		"":                                 true,
		"00":                               true,
		"00 04 00 00 00 05 01 03 02 12 34": true,  // a late answer
		"00 04 00 00 00 03 01 83 02":       true,  // an exception
		"00 04 00 00 00 06 01 10 00 01":    true,  // the answer to a write
		"00 04 00 00 00 08 01 16 00 01":    true,  // to a mask write
		"00 04 00 00 00 05 01":             true,  // the begin of one
		"00 09":                            false, // never sent
		"00 04 01":                         true,  // not enough to tell
		"00 04 01 00":                      false,
		"00 04 00 00 00 00":                false,
		"00 04 00 00 00 05 01 03 04":       false, // the lengths do not agree
		"00 04 00 00 00 05 01 06":          false,
		"00 04 00 00 00 05 01 83":          false,
		"00 04 00 00 00 06 01 16":          false,
		"00 04 00 00 00 05 01 00":          false, // no function
	} {
		c := receiver(unhex(t, stream), 5)
		_, _ = c.r.Peek(1)
		assert.Equal(t, want, c.follows(), stream)
	}
}
