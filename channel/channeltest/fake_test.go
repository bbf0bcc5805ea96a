package channeltest

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/voltageems/voltage/channel"
	"github.com/voltageems/voltage/model"
)

// faults are the ways in which the driver under test breaks the contract.
type faults struct {
	factoryStarts, factoryDials, takesAnything, namesNothing     bool
	connectIgnoresContext, connectLeaks, connectHangs            bool
	emptyRead, foreignPoint, nonFinite, wrongValue, textInNumber bool
	unreadableIsError, unreadableIsGood                          bool
	goneUnsaid, goneOnce, noSecondConnect                        bool
	readIgnoresContext, noPacing, slowPacing, readUnconnected    bool
	closeLeavesRead, closeLeavesWrite, closeFailsTwice, leaks    bool
	closeWithoutTime, noWriter, writeWaits, writeIgnoresContext  bool
	doneUnsent, doneUnheld, refusedAsDone, silentIsDone          bool
	unexplained, wrongReadBack, noReadBack, writesUnconnected    bool
	demandWaits, demandTakesAnything                             bool
}

// peer is the device: everything about it is under one mutex, and changed is
// closed when something changes.
type peer struct {
	mu         sync.Mutex
	up, frozen bool
	held       map[string]float64
	changed    chan struct{}
}

func (p *peer) set(f func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f()
	close(p.changed)
	p.changed = make(chan struct{})
}

func (p *peer) state() (up, frozen bool, changed <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.up, p.frozen, p.changed
}

// fake is a driver that keeps the contract, save for its faults.
type fake struct {
	f     faults
	p     *peer
	setup channel.Setup

	mu       sync.Mutex
	closed   chan struct{} // nil while not connected
	next     time.Time
	connects int
	gone     bool
	round    sync.Mutex
}

func newFake(f faults, p *peer, s channel.Setup) (channel.Driver, error) {
	if up, _, _ := p.state(); f.factoryDials && !up {
		return nil, errors.New("no peer")
	}
	if f.factoryStarts {
		go func() { <-s.Clock.After(time.Hour) }()
	}
	for _, point := range s.Points {
		if point.Address == "nonsense" && !f.takesAnything {
			if f.namesNothing {
				return nil, errors.New("some address is wrong")
			}
			return nil, fmt.Errorf("point %s: address %q", point.ID, point.Address)
		}
	}
	d := &fake{f: f, p: p, setup: s}
	if f.noWriter {
		return struct{ channel.Driver }{d}, nil
	}
	return d, nil
}

func (d *fake) Connect(ctx context.Context) error {
	up, frozen, _ := d.p.state()
	if d.f.connectHangs && frozen {
		<-d.setup.Clock.After(time.Hour)
	}
	if ctx.Err() != nil && !d.f.connectIgnoresContext {
		return ctx.Err()
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.connects++
	if !up || d.f.noSecondConnect && d.connects > 1 {
		if d.f.connectLeaks {
			go func() { <-make(chan struct{}) }()
		}
		return errors.New("no peer")
	}
	if d.closed == nil {
		d.closed = make(chan struct{})
	}
	d.next, d.gone = d.setup.Clock.Now(), false
	if d.f.leaks {
		go func() { <-make(chan struct{}) }()
	}
	return nil
}

func (d *fake) Close(ctx context.Context) error {
	if d.f.closeWithoutTime && ctx.Err() != nil {
		return ctx.Err()
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed == nil {
		if d.f.closeFailsTwice {
			return errors.New("closed already")
		}
		return nil
	}
	close(d.closed)
	d.closed = nil
	return nil
}

func (d *fake) connection() chan struct{} {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.closed
}

func (d *fake) Read(ctx context.Context) ([]model.Sample, error) {
	if d.f.writeWaits {
		d.round.Lock()
		defer d.round.Unlock()
	}
	closed := d.connection()
	if closed == nil {
		if d.f.readUnconnected {
			return []model.Sample{{Point: "1"}}, nil
		}
		return nil, channel.ErrNotConnected
	}
	if d.f.closeLeavesRead {
		closed = nil
	}
	ended := ctx.Done()
	if d.f.readIgnoresContext {
		ended = nil
	}
	for {
		up, frozen, changed := d.p.state()
		d.mu.Lock()
		gone, now := d.gone, d.setup.Clock.Now()
		wait := d.next.Sub(now)
		d.gone = d.gone || !up
		d.mu.Unlock()
		if !up && d.f.goneUnsaid {
			return nil, errors.New("end of file")
		}
		if !up && (!gone || !d.f.goneOnce) {
			return nil, channel.ErrNotConnected
		}
		if d.f.noPacing {
			break
		}
		due := d.setup.Clock.After(wait)
		if frozen {
			due = nil
		}
		select {
		case <-due:
			if wait > 0 {
				continue
			}
		case <-changed:
			continue
		case <-ended:
			return nil, ctx.Err()
		case <-closed:
			return nil, channel.ErrNotConnected
		}
		break
	}
	d.mu.Lock()
	d.next = d.next.Add(d.setup.Scan)
	if d.f.slowPacing {
		d.next = d.next.Add(d.setup.Scan)
	}
	d.mu.Unlock()
	return d.samples()
}

func (d *fake) samples() ([]model.Sample, error) {
	var out []model.Sample
	for _, p := range d.setup.Points {
		s := model.Sample{Point: p.ID, Value: 5}
		switch {
		case p.Text:
			s.Value, s.Text = 0, "hello"
		case p.Address == "dead" && d.f.unreadableIsError:
			return nil, errors.New("no such register")
		case p.Address == "dead" && !d.f.unreadableIsGood:
			s.Quality = model.Bad
		case d.f.textInNumber:
			s.Text = "5"
		case d.f.nonFinite:
			s.Value = math.NaN()
		case d.f.wrongValue:
			s.Value = 6
		}
		out = append(out, s)
	}
	if d.f.foreignPoint {
		out = append(out, model.Sample{Point: "foreign"})
	}
	if d.f.emptyRead {
		out = nil
	}
	return out, nil
}

func (d *fake) Demand(points ...string) error {
	for _, id := range points {
		if !slices.ContainsFunc(d.setup.Points, func(p model.Point) bool { return p.ID == id }) && !d.f.demandTakesAnything {
			return fmt.Errorf("%w: point %s", model.ErrInvalid, id)
		}
	}
	if !d.f.demandWaits {
		d.p.set(func() {
			d.mu.Lock()
			defer d.mu.Unlock()
			d.next = d.setup.Clock.Now()
		})
	}
	return nil
}

func (d *fake) Write(ctx context.Context, w channel.Write) (channel.Outcome, error) {
	out, err := d.write(ctx, w)
	if d.f.unexplained && out.Result < channel.Done {
		err = nil
	}
	return out, err
}

func (d *fake) write(ctx context.Context, w channel.Write) (channel.Outcome, error) {
	if d.f.writeWaits {
		d.round.Lock()
		defer d.round.Unlock()
	}
	closed := d.connection()
	up, frozen, _ := d.p.state()
	if (closed == nil || !up) && !d.f.writesUnconnected {
		if d.f.doneUnsent {
			return channel.Outcome{Result: channel.Done}, nil
		}
		return channel.Outcome{}, channel.ErrNotConnected
	}
	if strings.HasPrefix(w.Point.Address, "refuse") && !d.f.refusedAsDone {
		return channel.Outcome{Result: channel.Refused}, errors.New("refused")
	}
	if !d.f.doneUnheld {
		d.p.set(func() { d.p.held[w.Point.ID] = w.Value })
	}
	if frozen && !d.f.silentIsDone {
		ended := ctx.Done()
		if d.f.writeIgnoresContext {
			ended = nil
		}
		if d.f.closeLeavesWrite {
			closed = nil
		}
		select {
		case <-d.setup.Clock.After(d.setup.Timeout):
		case <-ended:
		case <-closed:
		}
		return channel.Outcome{Result: channel.Sent}, errors.New("no answer")
	}
	if !w.Point.ReadBack || d.f.noReadBack {
		return channel.Outcome{Result: channel.Done}, nil
	}
	back := w.Value
	if d.f.wrongReadBack {
		back += 10
	}
	return channel.Outcome{Result: channel.Confirmed, ReadBack: &back}, nil
}

// harness describes the fake.
func harness(f faults) Harness {
	setpoint := model.Point{ID: "10", Kind: model.Control, ReadBack: true}
	plain := model.Point{ID: "11", Kind: model.Adjustment}
	return Harness{
		Start: func(testing.TB) Peer {
			p := &peer{up: true, held: map[string]float64{}, changed: make(chan struct{})}
			return Peer{
				Factory: func(s channel.Setup) (channel.Driver, error) { return newFake(f, p, s) },
				Stop:    func() { p.set(func() { p.up = false }) },
				Restart: func() { p.set(func() { p.up = true }) },
				Freeze:  func() { p.set(func() { p.frozen = true }) },
				Held: func(point string) (float64, bool) {
					p.mu.Lock()
					defer p.mu.Unlock()
					v, ok := p.held[point]
					return v, ok
				},
			}
		},
		Points: []Expect{
			{Point: model.Point{ID: "1"}, Value: 5},
			{Point: model.Point{ID: "2"}, Any: true},
			{Point: model.Point{ID: "3", Text: true}, Text: "hello"},
		},
		Unreadable:   []model.Point{{ID: "20", Address: "dead"}},
		BadAddresses: []model.Point{{ID: "30", Address: "nonsense"}},
		Writes:       []channel.Write{{Point: setpoint, Value: 1}, {Point: setpoint, Value: 2}, {Point: plain, Value: 3}},
		Refused:      []channel.Write{{Point: model.Point{ID: "12", Kind: model.Control, Address: "refuse"}, Value: 1}},
	}
}
