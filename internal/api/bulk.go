package api

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"

	"github.com/voltageems/voltage/model"
	"github.com/voltageems/voltage/scripts"
)

// maxBulk is how many commands one request may give.
const maxBulk = 100

// outcome is what became of one command of several. Problem is nil where it was
// taken, or waited for and carried out.
type outcome struct {
	Status  int                  `json:"status"`
	Command *model.CommandResult `json:"command,omitempty"`
	Problem *problem             `json:"problem,omitempty"`
}

// controlMany gives several commands, in the order of the list, each with a result of
// its own. All are checked in form before any is given; what the site refuses is
// refused alone.
func (h *Handler) controlMany(w http.ResponseWriter, r *http.Request) error {
	wait, err := waits(r)
	if err != nil {
		return err
	}
	commands, notes, err := readCommands(w, r)
	if err != nil {
		return err
	}
	results := make([]outcome, len(commands))
	h.submitAll(r, commands, results)
	if wait {
		takesLong(w)
		h.awaitAll(r, commands, results)
	}
	status := http.StatusOK
	if !wait {
		status = http.StatusAccepted
	}
	for i, res := range results {
		if res.Problem != nil {
			status = http.StatusMultiStatus
		}
		notes[i].outcome(res)
	}
	accessOf(r).parts = notes
	h.write(w, status, "application/json", map[string]any{"results": results})
	return nil
}

// readCommands reads the list, and makes a note of each for the audit journal.
func readCommands(w http.ResponseWriter, r *http.Request) ([]model.Command, []part, error) {
	var list []json.RawMessage
	if err := readBody(w, r, false, map[string]any{"commands": &list}); err != nil {
		return nil, nil, err
	}
	if len(list) < 1 || len(list) > maxBulk {
		return nil, nil, problemf(http.StatusBadRequest, `field "commands" has %d commands: want 1 to %d`, len(list), maxBulk)
	}
	commands, notes := make([]model.Command, len(list)), make([]part, len(list))
	for i, item := range list {
		var b commandBody
		var modelID, control string
		fields := b.fields()
		fields["model"], fields["control"] = &modelID, &control
		a := access{client: accessOf(r).client, identity: accessOf(r).identity}
		err := decodeObject(item, fields)
		if err == nil {
			commands[i], err = b.command(&a, modelID, control)
		}
		if err != nil {
			p := asProblem(err)
			p.Detail = fmt.Sprintf("commands[%d]: %s; none was given", i, p.Detail)
			return nil, nil, &p
		}
		// The id is made here, so that a submission can be repeated.
		commands[i].ID = strings.ToLower(rand.Text())
		notes[i].access = a
	}
	return commands, notes, nil
}

func (h *Handler) submitAll(r *http.Request, commands []model.Command, results []outcome) {
	ctx, cancel := limited(r)
	defer cancel()
	for i, c := range commands {
		res, err := h.site.Submit(ctx, c)
		switch {
		case err != nil:
			results[i] = h.failed(r, withRecord(err, res))
		case res.State == model.CommandRejected:
			results[i] = h.failed(r, commandProblem(res))
		default:
			results[i] = outcome{Status: http.StatusAccepted, Command: &res}
		}
	}
}

// awaitAll waits for those that were taken, all at once.
func (h *Handler) awaitAll(r *http.Request, commands []model.Command, results []outcome) {
	var wg sync.WaitGroup
	for i, c := range commands {
		if results[i].Problem != nil {
			continue
		}
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(r.Context(), c.Timeout+settleTime)
			defer cancel()
			res, err := h.site.Await(ctx, *results[i].Command, c.Timeout)
			switch {
			case err != nil:
				results[i] = h.failed(r, withRecord(err, res))
			case res.State.OK():
				results[i] = outcome{Status: http.StatusOK, Command: &res}
			default:
				results[i] = h.failed(r, commandProblem(res))
			}
		})
	}
	wg.Wait()
}

func (h *Handler) failed(r *http.Request, err error) outcome {
	p := asProblem(err)
	p.Instance = r.URL.Path
	return outcome{Status: p.Status, Problem: &p}
}

// part is what the audit journal is to say of one command of several.
type part struct {
	access
	status int
}

func (n *part) outcome(o outcome) {
	n.status = o.Status
	switch {
	case o.Command != nil:
		n.commanded(*o.Command)
	case o.Problem.Command != nil:
		n.commanded(*o.Problem.Command)
	default:
		n.result, n.detail = "failed", n.detail+"; "+o.Problem.Detail
	}
}

// values answers with the values of several models at once.
func (h *Handler) values(w http.ResponseWriter, r *http.Request) error {
	ctx, cancel := limited(r)
	defer cancel()
	var ids []string
	if query := r.URL.Query(); query.Has("models") {
		ids = strings.Split(query.Get("models"), ",")
		if len(ids) > maxSubscribed {
			return problemf(http.StatusBadRequest, "models: %d of them: want at most %d", len(ids), maxSubscribed)
		}
		for _, id := range ids {
			if err := model.CheckID("model", id); err != nil {
				return err
			}
		}
	} else {
		models, err := h.site.Models(ctx)
		if err != nil {
			return err
		}
		for _, m := range models {
			ids = append(ids, m.ID)
		}
	}
	slices.Sort(ids)
	ids = slices.Compact(ids)
	return h.cached(ctx, w, r, scripts.Answer{}, func() (any, error) {
		all, err := h.site.ValuesOf(ctx, ids...)
		if err != nil {
			return nil, fmt.Errorf("reading the values of %d models: %w", len(ids), err)
		}
		forms, missing := make(map[string]map[string]valueForm, len(all)), []string{}
		for _, id := range ids {
			values, ok := all[id]
			if !ok {
				missing = append(missing, id)
				continue
			}
			forms[id] = make(map[string]valueForm, len(values))
			for name, v := range values {
				forms[id][name] = newValueForm(v)
			}
		}
		return map[string]any{"values": forms, "missing": missing}, nil
	})
}

// enableModel lets commands to a model or refuses them.
func (h *Handler) enableModel(w http.ResponseWriter, r *http.Request) error {
	ctx, cancel := limited(r)
	defer cancel()
	id, err := pathID(r, "id", "model")
	if err != nil {
		return err
	}
	var enabled *bool
	var by, reason string
	if err := readBody(w, r, false, map[string]any{"enabled": &enabled, "by": &by, "reason": &reason}); err != nil {
		return err
	}
	switch {
	case enabled == nil:
		return problemf(http.StatusBadRequest, `field "enabled" is missing: want true or false`)
	case !model.PlainText(by, 64) || !model.PlainText(reason, 500):
		return problemf(http.StatusBadRequest, `fields "by" and "reason" are plain text of at most 64 and 500 bytes`)
	}
	a := accessOf(r)
	a.user(by)
	a.target, a.detail = id, strings.TrimSuffix(fmt.Sprintf("enabled %t; %s", *enabled, reason), "; ")
	m, err := h.site.EnableModel(ctx, id, *enabled)
	if err != nil {
		return err
	}
	return h.ok(w, newModelForm(h.site, m))
}
