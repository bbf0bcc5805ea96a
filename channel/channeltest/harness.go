package channeltest

import (
	"testing"
	"time"

	"github.com/voltageems/voltage/channel"
	"github.com/voltageems/voltage/model"
)

// Harness describes a driver and its device to the suite. Start and Points are
// required; what else is left empty leaves out the checks that need it.
type Harness struct {
	// Start starts a peer for one check. What has to be ended is ended by
	// tb.Cleanup. It is called for several checks at a time.
	Start func(tb testing.TB) Peer

	// Points are what the driver is to read, at least one.
	Points []Expect
	// Unreadable are points with a correct address which the device does not
	// deliver. The driver gives them as samples of unusable quality while it
	// reads the others.
	Unreadable []model.Point
	// BadAddresses are points that the Factory must refuse, each of them alone.
	BadAddresses []model.Point

	// Writes are written in turn, and the device accepts each of them. Their
	// points are part of the channel. Several to one point are welcome.
	Writes []channel.Write
	// Refused are writes to which the device answers that it will not. Their
	// points are part of the channel.
	Refused []channel.Write

	// Spontaneous marks a driver whose device speaks by itself. The suite does
	// not check then that the driver polls by Setup.Scan and Setup.Clock.
	Spontaneous bool

	// Scan is Setup.Scan. Zero means 10 ms.
	Scan time.Duration
	// Timeout is Setup.Timeout, save where a check needs one that never comes.
	// Zero means 200 ms.
	Timeout time.Duration
	// Patience is how long the suite waits for anything that is to come
	// promptly, or after Timeout. It only decides how soon a wrong driver
	// fails. Zero means 10 s.
	Patience time.Duration
}

// Expect is a point and what the device holds of it.
type Expect struct {
	// Point is the point's definition.
	Point model.Point
	// Value is what the driver is to return, in the point's unit, give or take
	// Tolerance. It is not looked at in text points.
	Value float64
	// Tolerance is how far the value may differ. Zero means 1e-6, the last
	// decimal that is stored.
	Tolerance float64
	// Any accepts every finite value, for what the device measures anew.
	Any bool
	// Text is the value of a text point.
	Text string
}

// Peer is a started device.
type Peer struct {
	// Factory makes the drivers of this peer. Required.
	Factory channel.Factory
	// Stop takes the peer away: connections break, and new ones fail.
	// Without it Restart is not called either.
	Stop func()
	// Restart brings the peer back after Stop, under the same address. It
	// returns when the peer can be reached.
	Restart func()
	// Freeze lets the peer keep its connections, take requests, and answer
	// nothing more, as a device does that hangs.
	Freeze func()
	// Held returns what the device holds for a point that was written, in the
	// point's unit, as seen from inside the device. It is called while the
	// driver runs.
	Held func(point string) (float64, bool)
}

// Run runs the suite, each check as a parallel subtest.
func Run(t *testing.T, h Harness) {
	t.Helper()
	if h.Start == nil || len(h.Points) == 0 {
		t.Fatal("channeltest: Harness needs Start and Points")
	}
	h = h.withDefaults()
	for _, s := range specs {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			h.run(t, s)
		})
	}
}

func (h Harness) withDefaults() Harness {
	if h.Scan == 0 {
		h.Scan = 10 * time.Millisecond
	}
	if h.Timeout == 0 {
		h.Timeout = 200 * time.Millisecond
	}
	if h.Patience == 0 {
		h.Patience = 10 * time.Second
	}
	return h
}

// A spec is one check of the suite.
type spec struct {
	name string
	// needs returns what the check needs and the harness does not have, or "".
	needs func(h Harness, p Peer) string
	body  func(c *check)
}

// The suite.
var specs = []spec{
	{"factory does no I/O", nil, factoryDoesNoIO},
	{"factory refuses bad addresses", needBadAddresses, factoryRefusesBadAddresses},
	{"connect and read", nil, connectAndRead},
	{"connect after the context ended", nil, connectAfterContext},
	{"connect fails without the peer", needStop, connectWithoutPeer},
	{"connect honours the context", needFreeze, connectFrozen},
	{"connect and close race", nil, connectAndClose},
	{"read paces itself", needPolling, readPaces},
	{"read ends with the context", nil, readEndsWithContext},
	{"read of a silent peer ends with the context", needFreeze, readFrozenEndsWithContext},
	{"read gives unreadable points as samples", needUnreadable, readUnreadable},
	{"demand", nil, demandReads},
	{"read without a connection", nil, readUnconnected},
	{"peer vanishes and comes back", needStop, vanishAndRecover},
	{"close is idempotent", nil, closeIsIdempotent},
	{"close ends read", nil, closeEndsRead},
	{"close ends write", needWritesAndFreeze, closeEndsWrite},
	{"write", needWrites, writeAll},
	{"write while read waits", needWrites, writeWhileReadWaits},
	{"write beside read", needWrites, writeBesideRead},
	{"write without a connection", needWrites, writeUnconnected},
	{"write after the peer vanished", needWritesAndStop, writeVanished},
	{"write to a silent peer", needWritesAndFreeze, writeFrozen},
	{"write ends with the context", needWritesAndFreeze, writeEndsWithContext},
	{"write is refused", needRefused, writeRefused},
}

func needStop(_ Harness, p Peer) string {
	if p.Stop == nil || p.Restart == nil {
		return "Peer.Stop and Peer.Restart"
	}
	return ""
}

func needFreeze(_ Harness, p Peer) string {
	if p.Freeze == nil {
		return "Peer.Freeze"
	}
	return ""
}

func needBadAddresses(h Harness, _ Peer) string {
	if len(h.BadAddresses) == 0 {
		return "Harness.BadAddresses"
	}
	return ""
}

func needUnreadable(h Harness, _ Peer) string {
	if len(h.Unreadable) == 0 {
		return "Harness.Unreadable"
	}
	return ""
}

func needPolling(h Harness, _ Peer) string {
	if h.Spontaneous {
		return "a driver that polls"
	}
	return ""
}

func needWrites(h Harness, _ Peer) string {
	if len(h.Writes) == 0 {
		return "Harness.Writes"
	}
	return ""
}

func needRefused(h Harness, _ Peer) string {
	if len(h.Refused) == 0 {
		return "Harness.Refused"
	}
	return ""
}

func needWritesAndFreeze(h Harness, p Peer) string {
	if s := needWrites(h, p); s != "" {
		return s
	}
	return needFreeze(h, p)
}

func needWritesAndStop(h Harness, p Peer) string {
	if s := needWrites(h, p); s != "" {
		return s
	}
	return needStop(h, p)
}
