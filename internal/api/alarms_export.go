package api

import (
	"context"
	"encoding/csv"
	"encoding/json"
	"io"
	"mime"
	"net/http"
	"time"

	"github.com/voltageems/voltage/model"
)

const (
	// exportPage is how many transitions an export holds at once.
	exportPage = 500
	// exportTimeout bounds one page: its reading, and how long a client may take
	// to accept it.
	exportTimeout = 30 * time.Second
)

// exportAlarmJournal answers with the part of the journal that is there now, page by
// page. Once the first has gone out there is no way to tell of an error but to cut the
// connection, so that nobody takes a part for the whole.
func (h *Handler) exportAlarmJournal(w http.ResponseWriter, r *http.Request) error {
	query := r.URL.Query()
	format := query.Get("format")
	if format == "" {
		format = "csv"
	}
	if format != "csv" && format != "json" {
		return problemf(http.StatusBadRequest, "format=%.20q: want csv or json", format)
	}
	if err := parameters(query, "format", "from", "to", "model"); err != nil {
		return err
	}
	part := journalPart{query: model.AlarmJournalQuery{Model: query.Get("model"), Limit: exportPage}}
	var err error
	if part.query.From, part.query.To, err = period(query); err != nil {
		return err
	}
	events, err := h.beginExport(r, &part)
	if err != nil {
		return err
	}
	name := "alarm-journal-" + h.site.Name() + "." + format
	w.Header().Set("Content-Disposition", mime.FormatMediaType("attachment", map[string]string{"filename": name}))
	var out exporter = &jsonExport{w: w}
	w.Header().Set("Content-Type", "application/json")
	if format == "csv" {
		out = newCSVExport(w)
		w.Header().Set("Content-Type", "text/csv; charset=utf-8; header=present")
	}
	w.WriteHeader(http.StatusOK)
	if r.Method == http.MethodHead {
		return nil
	}
	if err := part.write(r.Context(), http.NewResponseController(w), out, events); err != nil {
		if r.Context().Err() == nil {
			h.log.Warn("the export of the alarm journal ended early", "error", err)
		}
		panic(http.ErrAbortHandler)
	}
	return nil
}

// beginExport finds out where the journal ends, so that an export does too, and reads
// the first page.
func (h *Handler) beginExport(r *http.Request, part *journalPart) (events []model.AlarmEvent, err error) {
	ctx, cancel := limited(r)
	defer cancel()
	if part.store, err = h.site.AlarmStore(); err != nil {
		return nil, err
	}
	if part.end, _, err = h.site.JournalEnds(ctx); err != nil {
		return nil, err
	}
	return part.read(ctx)
}

// journalPart is what is read of the journal.
type journalPart struct {
	store AlarmStore
	query model.AlarmJournalQuery
	// end is the last position that is read.
	end string
	// over says that nothing is left.
	over bool
}

// read returns the next page.
func (p *journalPart) read(ctx context.Context) ([]model.AlarmEvent, error) {
	events, err := p.store.AlarmJournalRange(ctx, p.query)
	if err != nil {
		return nil, err
	}
	p.over = len(events) < p.query.Limit
	for i, ev := range events {
		if newer(ev.Position, p.end) {
			p.over = true
			return events[:i], nil
		}
		p.query.After = ev.Position
	}
	return events, nil
}

// write writes the first events and, while there are more, those that follow.
func (p *journalPart) write(ctx context.Context, rc *http.ResponseController, out exporter, events []model.AlarmEvent) error {
	for {
		_ = rc.SetWriteDeadline(time.Now().Add(exportTimeout)) // an error only means that there is none
		if err := out.write(events); err != nil {
			return err
		}
		if p.over {
			return out.end()
		}
		page, cancel := context.WithTimeout(ctx, exportTimeout)
		var err error
		events, err = p.read(page)
		cancel()
		if err != nil {
			return err
		}
	}
}

// exporter writes transitions in a form; end writes what comes last.
type exporter interface {
	write(events []model.AlarmEvent) error
	end() error
}

// jsonExport writes an object whose "events" is a list of transitions as the journal
// shows them, one a line.
type jsonExport struct {
	w     io.Writer
	begun bool
}

func (e *jsonExport) write(events []model.AlarmEvent) error {
	for _, ev := range events {
		body, err := json.Marshal(ev)
		if err != nil {
			return err
		}
		lead := ",\n"
		if !e.begun {
			lead, e.begun = "{\"events\":[\n", true
		}
		if _, err := e.w.Write(append([]byte(lead), body...)); err != nil {
			return err
		}
	}
	return nil
}

func (e *jsonExport) end() error {
	tail := "\n]}\n"
	if !e.begun {
		tail = "{\"events\":[]}\n"
	}
	_, err := io.WriteString(e.w, tail)
	return err
}

// csvExport writes RFC 4180, with a header.
type csvExport struct{ w *csv.Writer }

func newCSVExport(w io.Writer) *csvExport {
	e := &csvExport{csv.NewWriter(w)}
	e.w.UseCRLF = true
	_ = e.w.Write(model.AlarmEventColumns()) // an error comes again with the next line
	return e
}

func (e *csvExport) write(events []model.AlarmEvent) error {
	for _, ev := range events {
		if err := e.w.Write(ev.Row()); err != nil {
			return err
		}
	}
	return e.end()
}

func (e *csvExport) end() error {
	e.w.Flush()
	return e.w.Error()
}
