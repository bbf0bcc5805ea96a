package runner

import (
	"context"
	"fmt"
	"runtime/debug"
	"time"

	"github.com/voltageems/voltage/channel"
	"github.com/voltageems/voltage/model"
)

// connectTimeout bounds one Connect, which may take several requests.
func (r *Runner) connectTimeout() time.Duration { return max(10*r.ch.Timeout, 5*time.Second) }

// contain makes an error of a driver's panic. The state of such a driver is not
// known, so the connection counts as lost.
func (r *Runner) contain(call string, err *error) {
	if p := recover(); p != nil {
		r.log.Error("the driver panicked", "call", call, "panic", p, "stack", string(debug.Stack()))
		*err = fmt.Errorf("%w: the driver panicked in %s: %.200v", channel.ErrNotConnected, call, p)
	}
}

func (r *Runner) connectDriver(ctx context.Context) (err error) {
	defer r.contain("Connect", &err)
	ctx, cancel := r.timeout(ctx, r.connectTimeout())
	defer cancel()
	return r.driver.Connect(ctx)
}

func (r *Runner) readDriver(ctx context.Context) (samples []model.Sample, err error) {
	defer r.contain("Read", &err)
	return r.driver.Read(ctx)
}

func (r *Runner) closeDriver() {
	if r.driver == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), closeTime)
	defer cancel()
	if err := r.closeContained(ctx); err != nil {
		r.log.Warn("closing the driver failed", "error", err)
	}
}

func (r *Runner) closeContained(ctx context.Context) (err error) {
	defer r.contain("Close", &err)
	return r.driver.Close(ctx)
}

// writeDriver reports a panic as sent, for nobody knows how far it came.
func (r *Runner) writeDriver(ctx context.Context, w channel.Write) (out channel.Outcome, err error) {
	panicked := true
	defer func() {
		if panicked {
			out = channel.Outcome{Result: channel.Sent}
		}
	}()
	defer r.contain("Write", &err)
	out, err = r.writer.Write(ctx, w)
	panicked = false
	return out, err
}

// selectDriver has the device reserve a point. A panic counts as sent.
func (r *Runner) selectDriver(ctx context.Context, w channel.Write) (out channel.Outcome, err error) {
	panicked := true
	defer func() {
		if panicked {
			out = channel.Outcome{Result: channel.Sent}
		}
	}()
	defer r.contain("Select", &err)
	out, err = r.driver.(channel.Selector).Select(ctx, w) // as Config.NewDriver saw to it
	panicked = false
	return out, err
}
