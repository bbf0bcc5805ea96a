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
	switch wait := r.URL.Query().Get("wait"); wait {
	case "", "1", "true":
		return h.controlAndWait(w, r, c)
	case "0", "false":
		return h.submit(w, r, c)
	default:
		return problemf(http.StatusBadRequest, "wait=%.20q: want 0 or 1", wait)
	}
}

// readCommand makes the command that the request asks for, checked in form.
func readCommand(w http.ResponseWriter, r *http.Request) (model.Command, error) {
	var (
		value     *float64
		key, user string
		timeout   *int64
	)
	err := readBody(w, r, false, map[string]any{"value": &value, "key": &key, "timeout_ms": &timeout, "user": &user})
	if err != nil {
		return model.Command{}, err
	}
	if value == nil {
		return model.Command{}, problemf(http.StatusBadRequest, `field "value" is missing: the value to write, in the point's unit`)
	}
	c := model.Command{Model: r.PathValue("id"), Control: r.PathValue("name"), Value: *value, Origin: origin, User: accessOf(r).user(user), Key: key}
	accessOf(r).target, accessOf(r).detail = c.Model+":"+c.Control, "value "+model.FormatValue(c.Value)
	// The header's draft has the key in quotes, most clients send it bare.
	if header := strings.Trim(r.Header.Get("Idempotency-Key"), `"`); header != "" {
		if key != "" && key != header {
			return model.Command{}, problemf(http.StatusBadRequest, `field "key" and header Idempotency-Key differ`)
		}
		c.Key = header
	}
	if timeout != nil {
		// Compared before it is multiplied, for the product may overflow.
		if *timeout < 1 || *timeout > model.MaxCommandTimeout.Milliseconds() {
			return model.Command{}, problemf(http.StatusBadRequest, "field \"timeout_ms\" is %d: want 1 to %d",
				*timeout, model.MaxCommandTimeout.Milliseconds())
		}
		c.Timeout = time.Duration(*timeout) * time.Millisecond
	}
	c = c.WithDefaults()
	return c, c.Validate()
}

// settleTime is how much longer than the command's own timeout the answer may
// take: the site settles a command after its deadline.
const settleTime = 10 * time.Second

func (h *Handler) controlAndWait(w http.ResponseWriter, r *http.Request, c model.Command) error {
	// The server's own time limits are for short requests. Errors only mean that
	// w has none.
	rc := http.NewResponseController(w)
	_ = rc.SetReadDeadline(time.Time{})
	_ = rc.SetWriteDeadline(time.Time{})
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
