package runner

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"strings"

	"github.com/voltageems/voltage/channel"
	"github.com/voltageems/voltage/model"
)

// maxDetail bounds the detail of a result, in bytes.
const maxDetail = 400

// refusal returns why a value must not be written to a point. The command was
// checked when it was recorded, but against what the store held then; this is
// what the driver was made with.
func refusal(p *model.Point, v float64) (reason, detail string) {
	const slack = 0.0000005 // half of the last stored decimal
	switch {
	case !p.Kind.Writable():
		return "not_writable", fmt.Sprintf("point %s is a %s", p.ID, p.Kind)
	case !model.Storable(v):
		return "not_finite", fmt.Sprintf("%v is not a value", v)
	case p.Min != nil && v < *p.Min-slack:
		return "limit", fmt.Sprintf("%v is below the minimum %v of point %s", v, *p.Min, p.ID)
	case p.Max != nil && v > *p.Max+slack:
		return "limit", fmt.Sprintf("%v is above the maximum %v of point %s", v, *p.Max, p.ID)
	case p.Step > 0:
		base := 0.0
		if p.Min != nil {
			base = *p.Min
		}
		n := (v - base) / p.Step
		if math.Abs(n-math.Round(n))*p.Step > 2*slack {
			return "step", fmt.Sprintf("%v is not on the step %v of point %s", v, p.Step, p.ID)
		}
	}
	if n := math.Round(v); p.Enum && (math.Abs(v-n) > slack || !labelled(p, n)) {
		return "enum", fmt.Sprintf("%v is none of the labelled values of point %s", v, p.ID)
	}
	return "", ""
}

func labelled(p *model.Point, n float64) bool {
	_, ok := p.Labels[int(n)]
	return ok
}

// end fills in a final state.
func (res *result) end(state model.CommandState, reason, detail string) {
	detail = strings.ToValidUTF8(detail, "?")
	if len(detail) > maxDetail {
		detail = strings.ToValidUTF8(detail[:maxDetail], "") + "…"
	}
	res.state, res.reason, res.detail = state, reason, detail
}

// outcome fills in what a driver's answer means. late is whether the command's
// deadline is over.
func (res *result) outcome(p *model.Point, out channel.Outcome, err error, late bool) {
	detail := ""
	if err != nil {
		detail = err.Error()
	}
	if out.ReadBack != nil && model.Storable(*out.ReadBack) {
		v := *out.ReadBack
		res.readBack = &v
	}
	switch out.Result {
	case channel.Confirmed:
		res.end(model.CommandVerified, "", "")
	case channel.Done:
		if p.ReadBack {
			res.end(model.CommandUnknown, "not_confirmed", detail)
		} else {
			res.end(model.CommandExecuted, "", detail)
		}
	case channel.Refused:
		res.end(model.CommandFailed, "refused", detail)
	case channel.NotSent:
		switch {
		case errors.Is(err, channel.ErrNotConnected):
			res.end(model.CommandFailed, "not_connected", detail)
		case late:
			res.end(model.CommandExpired, "timeout", detail)
		default:
			res.end(model.CommandFailed, "not_sent", detail)
		}
	default: // Sent, and whatever a driver makes up
		if late || isTimeout(err) {
			res.end(model.CommandUnknown, "timeout", detail)
		} else {
			res.end(model.CommandUnknown, "not_confirmed", detail)
		}
	}
}

// selection corrects the outcome where the answer is that to a selection, by
// which no device acts.
func (res *result) selection(selected bool) {
	if selected || res.state == "" {
		return
	}
	state, reason := res.state, res.reason
	if state == model.CommandUnknown {
		state, reason = model.CommandFailed, "not_selected"
	}
	res.end(state, reason, "select: "+res.detail)
}

// isTimeout reports whether err says that an answer did not come in time.
func isTimeout(err error) bool {
	var t interface{ Timeout() bool }
	return errors.Is(err, context.DeadlineExceeded) || errors.Is(err, os.ErrDeadlineExceeded) ||
		errors.As(err, &t) && t.Timeout()
}
