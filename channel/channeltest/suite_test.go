package channeltest

import (
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/voltageems/voltage/model"
)

func TestSuitePassesADriverThatKeepsTheContract(t *testing.T) {
	t.Parallel()
	Run(t, harness(faults{}))
}

func TestSuiteSkipsWhatThePeerCannotDo(t *testing.T) {
	t.Parallel()
	full := harness(faults{})
	bare := Harness{Points: full.Points, Spontaneous: true, Start: func(tb testing.TB) Peer {
		return Peer{Factory: full.Start(tb).Factory}
	}}
	skipped := 0
	for _, s := range specs {
		r := attempt(t, bare.withDefaults(), s)
		require.Empty(t, r.failed, s.name)
		if r.skipped != "" {
			skipped++
		}
	}
	require.Equal(t, 16, skipped)
}

// TestSuiteFindsFaults breaks the contract in one way at a time, and wants the
// check that is there for it to fail, with a message that says what is wrong.
func TestSuiteFindsFaults(t *testing.T) {
	t.Parallel()
	for _, f := range []struct {
		faults  faults
		check   string
		message string
	}{
		{faults{factoryStarts: true}, "factory does no I/O", "left goroutines after the Factory"},
		{faults{factoryDials: true}, "factory does no I/O", "Factory: no peer"},
		{faults{takesAnything: true}, "factory refuses bad addresses", "Factory took point 30"},
		{faults{namesNothing: true}, "factory refuses bad addresses", `does not name point "30"`},
		{faults{connectIgnoresContext: true}, "connect after the context ended", "succeeded although"},
		{faults{connectLeaks: true}, "connect fails without the peer", "left goroutines after a Connect that failed"},
		{faults{connectHangs: true}, "connect honours the context", "Connect after its context ended did not return"},
		{faults{leaks: true}, "connect and read", "left goroutines after Close"},
		{faults{leaks: true}, "connect and close race", "left goroutines after Close"},
		{faults{emptyRead: true}, "connect and read", "neither samples nor an error"},
		{faults{foreignPoint: true}, "connect and read", `point "foreign"`},
		{faults{nonFinite: true}, "connect and read", "not finite"},
		{faults{wrongValue: true}, "connect and read", "point 1: value 6, want 5"},
		{faults{textInNumber: true}, "connect and read", "of a point that is a number"},
		{faults{noSecondConnect: true}, "connect and read", "Connect: no peer"},
		{faults{noPacing: true}, "read paces itself", "although the clock stood still"},
		{faults{slowPacing: true}, "read paces itself", "the next round"},
		{faults{readIgnoresContext: true}, "read ends with the context", "did not return"},
		{faults{readIgnoresContext: true}, "read of a silent peer ends with the context", "did not return"},
		{faults{unreadableIsError: true}, "read gives unreadable points as samples", "no such register"},
		{faults{unreadableIsGood: true}, "read gives unreadable points as samples", "has quality good"},
		{faults{demandWaits: true}, "demand", "what was demanded"},
		{faults{demandTakesAnything: true}, "demand", "want model.ErrInvalid"},
		{faults{readUnconnected: true}, "read without a connection", "want ErrNotConnected"},
		{faults{goneUnsaid: true}, "peer vanishes and comes back", "did not report ErrNotConnected"},
		{faults{goneOnce: true}, "peer vanishes and comes back", "want it again"},
		{faults{noSecondConnect: true}, "peer vanishes and comes back", "Connect: no peer"},
		{faults{closeFailsTwice: true}, "close is idempotent", "closed already"},
		{faults{closeLeavesRead: true}, "close ends read", "Read after Close did not return"},
		{faults{closeLeavesWrite: true}, "close ends write", "Write after Close did not return"},
		{faults{noWriter: true}, "write", "is no channel.Writer"},
		{faults{doneUnheld: true}, "write", "the device holds 0"},
		{faults{wrongReadBack: true}, "write", "was read back"},
		{faults{noReadBack: true}, "write", "without the read-back"},
		{faults{writeWaits: true}, "write while read waits", "Write did not return"},
		{faults{doneUnsent: true}, "write without a connection", "want not sent"},
		{faults{unexplained: true}, "write without a connection", "without an error"},
		{faults{writesUnconnected: true}, "write after the peer vanished", "want not sent"},
		{faults{silentIsDone: true}, "write to a silent peer", "want sent"},
		{faults{writeIgnoresContext: true}, "write ends with the context", "did not return"},
		{faults{refusedAsDone: true}, "write is refused", "want refused"},
	} {
		t.Run(fmt.Sprintf("%s: %s", f.check, f.message), func(t *testing.T) {
			t.Parallel()
			require.Contains(t, fault(t, f.faults, f.check, f.message), f.message)
		})
	}
}

// TestCloseWithoutTimeMustClose is apart, for the fault shows only in a driver
// with goroutines.
func TestCloseWithoutTimeMustClose(t *testing.T) {
	t.Parallel()
	h := harness(faults{closeWithoutTime: true}).withDefaults()
	require.Empty(t, attempt(t, h, find(t, "close is idempotent")).failed)
	const left = "left goroutines"
	require.Contains(t, fault(t, faults{closeWithoutTime: true, leaks: true}, "close is idempotent", left), left)
}

// fault returns what a check says of a faulty driver. It starts with little
// patience, as most faults show only when it has run out, and takes more where
// a slow machine brought something else to light than the fault.
func fault(t *testing.T, f faults, name, message string) (said string) {
	t.Helper()
	for patience := 300 * time.Millisecond; patience < 20*time.Second && !strings.Contains(said, message); patience *= 4 {
		h := harness(f).withDefaults()
		h.Patience = patience
		said = attempt(t, h, find(t, name)).failed
	}
	return said
}

func find(t *testing.T, name string) spec {
	t.Helper()
	for _, s := range specs {
		if s.name == name {
			return s
		}
	}
	require.FailNow(t, "no check of that name", name)
	return spec{}
}

// verdict is what a check said.
type verdict struct{ failed, skipped string }

// attempt runs one check against a test that only notes its failure.
func attempt(t *testing.T, h Harness, s spec) verdict {
	t.Helper()
	n := &noting{TB: t}
	done := make(chan struct{})
	go func() {
		defer close(done)
		h.run(n, s)
	}()
	<-done
	return n.verdict
}

// noting is a testing.TB whose failures and skips are noted instead.
type noting struct {
	testing.TB
	verdict verdict
}

func (n *noting) Helper() {}

func (n *noting) Fatalf(format string, args ...any) {
	n.verdict.failed = fmt.Sprintf(format, args...)
	runtime.Goexit()
}

func (n *noting) Skipf(format string, args ...any) {
	n.verdict.skipped = fmt.Sprintf(format, args...)
	runtime.Goexit()
}

// TestHarnessDefaults keeps what the fields' comments say.
func TestHarnessDefaults(t *testing.T) {
	t.Parallel()
	h := Harness{}.withDefaults()
	require.Equal(t, 10*time.Millisecond, h.Scan)
	require.Equal(t, 200*time.Millisecond, h.Timeout)
	require.Equal(t, 10*time.Second, h.Patience)
	c := &check{tb: t, h: harness(faults{}).withDefaults()}
	var ids []string
	for _, p := range c.setup(model.SystemClock, time.Second).Points {
		ids = append(ids, p.ID)
	}
	require.Equal(t, []string{"1", "2", "3", "10", "11", "12"}, ids)
}
