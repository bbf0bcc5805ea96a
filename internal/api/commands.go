package api

import (
	"cmp"
	"context"
	"net/http"
	"strings"
	"time"

	"github.com/voltageems/voltage/model"
)

// origin marks commands that came over HTTP.
const origin = "api"

func (h *Handler) control(w http.ResponseWriter, r *http.Request) error {
	c, err := readCommand(w, r)
	if err != nil {
		return err
	}
	wait, err := waits(r)
	switch {
	case err != nil:
		return err
	case wait:
		return h.controlAndWait(w, r, c)
	}
	return h.submit(w, r, c)
}

// waits reports whether the answer is to wait for the final state.
func waits(r *http.Request) (bool, error) {
	switch wait := r.URL.Query().Get("wait"); wait {
	case "", "1", "true":
		return true, nil
	case "0", "false":
		return false, nil
	default:
		return false, problemf(http.StatusBadRequest, "wait=%.20q: want 0 or 1", wait)
	}
}

// commandBody is a command as a body has it.
type commandBody struct {
	value     *float64
	key, user string
	timeout   *int64
}

func (b *commandBody) fields() map[string]any {
	return map[string]any{"value": &b.value, "key": &b.key, "timeout_ms": &b.timeout, "user": &b.user}
}

// command makes the command of the body, checked in form, and notes it for the
// audit journal.
func (b *commandBody) command(a *access, modelID, control string) (model.Command, error) {
	if b.value == nil {
		return model.Command{}, problemf(http.StatusBadRequest, `field "value" is missing: the value to write, in the point's unit`)
	}
	c := model.Command{Model: modelID, Control: control, Value: *b.value, Origin: origin, User: a.user(b.user), Key: b.key}
	a.target, a.detail = c.Model+":"+c.Control, "value "+model.FormatValue(c.Value)
	if b.timeout != nil {
		// Compared before it is multiplied, for the product may overflow.
		if *b.timeout < 1 || *b.timeout > model.MaxCommandTimeout.Milliseconds() {
			return model.Command{}, problemf(http.StatusBadRequest, "field \"timeout_ms\" is %d: want 1 to %d",
				*b.timeout, model.MaxCommandTimeout.Milliseconds())
		}
		c.Timeout = time.Duration(*b.timeout) * time.Millisecond
	}
	c = c.WithDefaults()
	return c, c.Validate()
}

// readCommand makes the command that the request asks for, checked in form.
func readCommand(w http.ResponseWriter, r *http.Request) (model.Command, error) {
	var b commandBody
	if err := readBody(w, r, false, b.fields()); err != nil {
		return model.Command{}, err
	}
	// The header's draft has the key in quotes, most clients send it bare.
	if header := strings.Trim(r.Header.Get("Idempotency-Key"), `"`); header != "" {
		if b.key != "" && b.key != header {
			return model.Command{}, problemf(http.StatusBadRequest, `field "key" and header Idempotency-Key differ`)
		}
		b.key = header
	}
	return b.command(accessOf(r), r.PathValue("id"), r.PathValue("name"))
}

// settleTime is how much longer than the command's own timeout the answer may
// take: the site settles a command after its deadline.
const settleTime = 10 * time.Second

func (h *Handler) controlAndWait(w http.ResponseWriter, r *http.Request, c model.Command) error {
	takesLong(w)
	ctx, cancel := context.WithTimeout(r.Context(), c.Timeout+settleTime)
	defer cancel()
	res, err := h.site.Control(ctx, c)
	if err != nil {
		return withRecord(err, res)
	}
	accessOf(r).commanded(res)
	if res.State.OK() {
		return h.ok(w, res)
	}
	return commandProblem(res)
}

// takesLong moves the server's own time limits, which are for short requests. That of
// the writing stays, for a client may never read. Errors only mean that w has none.
func takesLong(w http.ResponseWriter) {
	rc := http.NewResponseController(w)
	_ = rc.SetReadDeadline(time.Time{})
	_ = rc.SetWriteDeadline(time.Now().Add(model.MaxCommandTimeout + settleTime + time.Minute))
}

// submit answers 202 for whatever state the record is in but rejected: the same
// key again may find a command that is long final.
func (h *Handler) submit(w http.ResponseWriter, r *http.Request, c model.Command) error {
	ctx, cancel := limited(r)
	defer cancel()
	res, err := h.site.Submit(ctx, c)
	if err != nil {
		return withRecord(err, res)
	}
	accessOf(r).commanded(res)
	if res.State == model.CommandRejected {
		return commandProblem(res)
	}
	w.Header().Set("Location", "/commands/"+res.ID)
	h.write(w, http.StatusAccepted, "application/json", res)
	return nil
}

// commanded notes what came of a command for the audit journal.
func (a *access) commanded(res model.CommandResult) {
	a.result = string(res.State)
	a.detail += "; command " + res.ID
	if why := cmp.Or(res.Detail, res.Reason); why != "" {
		a.detail += "; " + why
	}
}

// withRecord adds what is known of the command to an error.
func withRecord(err error, res model.CommandResult) error {
	p := asProblem(err)
	if res.ID != "" {
		p.Command = &res
	}
	return &p
}

// commandProblem is the answer for a command that did not certainly reach the
// device.
func commandProblem(res model.CommandResult) error {
	status, text := http.StatusGatewayTimeout, "the command is "+string(res.State)
	switch res.State {
	case model.CommandRejected:
		status, text = http.StatusUnprocessableEntity, "the command was refused"
	case model.CommandFailed:
		status, text = http.StatusBadGateway, "the command failed"
	case model.CommandCancelled, model.CommandSuperseded:
		status, text = http.StatusConflict, "the command was "+string(res.State)
	case model.CommandExpired:
		text = "the command expired before it could be sent"
	case model.CommandUnknown:
		text = "the command was sent, and neither confirmed nor refused"
	case model.CommandQueued, model.CommandExecuting:
		text = "the command is not final yet, it is " + string(res.State)
	}
	if why := cmp.Or(res.Detail, res.Reason); why != "" {
		text += ": " + why
	}
	p := problemf(status, "%s", text)
	p.Command = &res
	return p
}

func (h *Handler) command(w http.ResponseWriter, r *http.Request) error {
	ctx, cancel := limited(r)
	defer cancel()
	id, err := pathID(r, "id", "command")
	if err != nil {
		return err
	}
	res, err := h.site.Command(ctx, id)
	if err != nil {
		return err
	}
	return h.ok(w, res)
}

func (h *Handler) cancelCommand(w http.ResponseWriter, r *http.Request) error {
	ctx, cancel := limited(r)
	defer cancel()
	id, err := pathID(r, "id", "command")
	if err != nil {
		return err
	}
	var by string
	if err := readBody(w, r, true, map[string]any{"by": &by}); err != nil {
		return err
	}
	if len(by) > 64 {
		return problemf(http.StatusBadRequest, `field "by" has more than 64 bytes`)
	}
	accessOf(r).target = id
	res, err := h.site.Cancel(ctx, id, accessOf(r).user(by))
	if err != nil {
		return withRecord(err, res)
	}
	return h.ok(w, res)
}
