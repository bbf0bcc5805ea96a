package voltage

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/voltageems/voltage/model"
	"github.com/voltageems/voltage/scripts"
)

// The ways in which a command can end without having certainly reached the
// device. Control wraps one of them; the result beside it has the details.
var (
	ErrRejected = errors.New("command rejected")       // refused before it was queued
	ErrFailed   = errors.New("command failed")         // the device refused it, or it could not be sent
	ErrExpired  = errors.New("command expired")        // not sent within its time
	ErrGone     = errors.New("command taken back")     // cancelled or superseded
	ErrUnknown  = errors.New("command result unknown") // sent, and neither confirmed nor refused, or still under way
)

// grace is how long Control waits beyond a command's deadline for the result of
// a write that was under way.
const grace = 3 * time.Second

// Control gives a command and waits for its final state, at most until shortly
// after its deadline. The error is nil only when the device certainly took the
// command (verified or executed); else it wraps ErrRejected, ErrFailed,
// ErrExpired, ErrGone or ErrUnknown, and the result tells the rest.
func (e *Engine) Control(ctx context.Context, c model.Command) (model.CommandResult, error) {
	r, err := e.control(ctx, c)
	if err != nil {
		return r, err
	}
	return r, stateError(r)
}

func stateError(r model.CommandResult) error {
	var kind error
	switch r.State {
	case model.CommandVerified, model.CommandExecuted:
		return nil
	case model.CommandRejected:
		kind = ErrRejected
	case model.CommandFailed:
		kind = ErrFailed
	case model.CommandExpired:
		kind = ErrExpired
	case model.CommandCancelled, model.CommandSuperseded:
		kind = ErrGone
	default:
		kind = ErrUnknown
	}
	return fmt.Errorf("%w: %s:%s = %v: %s: %s", kind, r.Model, r.Control, r.Value, r.Reason, r.Detail)
}

// control is Control without an error for the final state.
func (e *Engine) control(ctx context.Context, c model.Command) (model.CommandResult, error) {
	c, err := e.prepare(c)
	if err != nil {
		return model.CommandResult{}, err
	}
	final := e.waiters.add(c.ID)
	defer e.waiters.remove(c.ID, final)
	r, err := e.plane.Submit(ctx, c)
	if err != nil || r.State.Final() {
		return r, err
	}
	if r.ID != c.ID { // the same idempotency key as a command that is under way
		e.waiters.remove(c.ID, final)
		final = e.waiters.add(r.ID)
		defer e.waiters.remove(r.ID, final)
	}
	return e.await(ctx, r, c.Timeout, final)
}

// await waits for the final state of a command that was given; final is its waiter.
// It gives nothing: a command that the store has lost is not given again.
func (e *Engine) await(ctx context.Context, r model.CommandResult, timeout time.Duration, final <-chan model.CommandResult) (model.CommandResult, error) {
	deadline := e.cfg.Clock.After(timeout)
	var last <-chan time.Time
	for {
		// The journal brings the result; looking it up now and then covers a
		// journal that cannot be read.
		select {
		case r := <-final:
			return r, nil
		case <-ctx.Done():
			return r, ctx.Err()
		case <-e.done:
			return r, ErrNotRunning
		case <-e.cfg.Clock.After(time.Second):
		case <-deadline:
			deadline, last = nil, e.cfg.Clock.After(grace)
			if r, err := e.plane.Expire(ctx, r.ID); err == nil {
				return r, nil
			}
		case <-last:
			now, err := e.plane.Command(ctx, r.ID)
			if errors.Is(err, scripts.ErrNotFound) {
				return r, nil // what became of it, nobody knows
			}
			return now, err
		}
		if now, err := e.plane.Command(ctx, r.ID); err == nil {
			if r = now; r.State.Final() {
				return r, nil
			}
		}
	}
}

// Submit gives a command and does not wait: the result is queued or rejected,
// or the first result of the same ID or Key. OnCommand and Command tell the rest.
func (e *Engine) Submit(ctx context.Context, c model.Command) (model.CommandResult, error) {
	c, err := e.prepare(c)
	if err != nil {
		return model.CommandResult{}, err
	}
	return e.plane.Submit(ctx, c)
}

func (e *Engine) prepare(c model.Command) (model.Command, error) {
	c = c.WithDefaults()
	if err := c.Validate(); err != nil {
		return c, err
	}
	if _, ok := e.running(); !ok {
		return c, ErrNotRunning
	}
	if c.ID == "" {
		random := make([]byte, 12)
		if _, err := rand.Read(random); err != nil {
			return c, err
		}
		c.ID = hex.EncodeToString(random)
	}
	return c, nil
}

// Command returns a command's record; scripts.ErrNotFound when there is none.
// Records stay 24 h after the final state.
func (e *Engine) Command(ctx context.Context, id string) (model.CommandResult, error) {
	if _, ok := e.running(); !ok {
		return model.CommandResult{}, ErrNotRunning
	}
	return e.plane.Command(ctx, id)
}

// Alive says that the origin of commands, such as "cloud", stands behind what it
// gave: the time of every control that it operated last and that has a
// ControlPolicy.Hold begins anew, as if it had given the value again. It is the
// origin's own doing: nobody else may say so for it.
func (e *Engine) Alive(ctx context.Context, origin string) error {
	if _, ok := e.running(); !ok {
		return ErrNotRunning
	}
	return e.plane.Alive(ctx, origin)
}

// Cancel takes back a command that was not sent yet; scripts.ErrConflict when it
// is too late.
func (e *Engine) Cancel(ctx context.Context, id, by string) (model.CommandResult, error) {
	if _, ok := e.running(); !ok {
		return model.CommandResult{}, ErrNotRunning
	}
	r, err := e.plane.Cancel(ctx, id, by)
	if errors.Is(err, scripts.ErrConflict) {
		return r, fmt.Errorf("command %s is %s: %w", id, r.State, err)
	}
	if err != nil {
		return r, fmt.Errorf("command %.80q: %w", id, err)
	}
	return r, nil
}

// waiters are the callers who wait for a command.
type waiters struct {
	mu   sync.Mutex
	list map[string][]chan model.CommandResult
}

func (w *waiters) add(id string) chan model.CommandResult {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.list == nil {
		w.list = map[string][]chan model.CommandResult{}
	}
	c := make(chan model.CommandResult, 1)
	w.list[id] = append(w.list[id], c)
	return c
}

func (w *waiters) remove(id string, c chan model.CommandResult) {
	w.mu.Lock()
	defer w.mu.Unlock()
	kept := w.list[id][:0]
	for _, other := range w.list[id] {
		if other != c {
			kept = append(kept, other)
		}
	}
	if len(kept) == 0 {
		delete(w.list, id)
	} else {
		w.list[id] = kept
	}
}

func (w *waiters) deliver(r model.CommandResult) {
	if !r.State.Final() {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, c := range w.list[r.ID] {
		select {
		case c <- r:
		default: // it has one already
		}
	}
}
