package api

import (
	"bufio"
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/voltageems/voltage/model"
)

// longJournal has a journal of n transitions that it makes up as they are read.
type longJournal struct {
	*fakeSite
	n     int
	grow  bool         // by a page with each that is read
	fail  int          // the reading that fails; 0 for none
	reads atomic.Int64 // pages
	most  atomic.Int64 // transitions in a page
	ended chan error   // where it is made, the second reading waits: told that it does, and why it ended
}

func (s *longJournal) AlarmStore() (AlarmStore, error) { return s, nil }

func (s *longJournal) JournalEnds(context.Context) (alarms, commands string, err error) {
	return fmt.Sprintf("%d-0", s.n), emptyJournal, nil
}

func (s *longJournal) AlarmJournalRange(ctx context.Context, q model.AlarmJournalQuery) ([]model.AlarmEvent, error) {
	reads := int(s.reads.Add(1))
	if reads == s.fail {
		return nil, errors.New("gone")
	}
	if s.ended != nil && reads > 1 {
		s.ended <- nil
		<-ctx.Done()
		s.ended <- ctx.Err()
		return nil, ctx.Err()
	}
	end := s.n
	if s.grow {
		end += reads * exportPage
	}
	ms, _ := splitPosition(q.After)
	var events []model.AlarmEvent
	for i := int(ms) + 1; i <= end && len(events) < q.Limit; i++ {
		events = append(events, model.AlarmEvent{Position: fmt.Sprintf("%d-0", i), Transition: model.TransitionRaised, Time: start, Alarm: fmt.Sprint(i),
			Model: "pv", Point: "temperature", Rule: "hot", Severity: model.High, Status: model.AlarmActive, Message: strings.Repeat("x", 100)})
	}
	s.most.Store(max(s.most.Load(), int64(len(events))))
	return events, nil
}

func TestExportCSV(t *testing.T) {
	t.Parallel()
	site := newFakeSite()
	site.events[0].Value, site.events[0].Threshold = -1.5, 1e6
	site.events[0].Model, site.events[0].Point, site.events[0].Rule = "pv", "temperature", "hot"
	site.events[0].DeviceTime = start.Add(-1500 * time.Millisecond).In(time.FixedZone("", 7200))
	site.events[1].Message, site.events[1].By, site.events[1].Comment = `=HYPERLINK("http://x","a, b")`, "+anna", "-1\n@x"
	site.events[1].Model, site.events[1].Alarm = "=1+1", "@SUM(1)" // no id; another program may have written it
	h := newHandler(t, site, nil)
	w := do(h, "GET", "/alarms/journal/export", "")
	assert.Equal(t, `attachment; filename=alarm-journal-plant-a.csv`, w.Header().Get("Content-Disposition"))
	assert.Equal(t, "text/csv; charset=utf-8; header=present", w.Header().Get("Content-Type"))
	text := w.Body.String()
	lines := strings.Split(text, "\r\n")
	require.Len(t, lines, 5, "RFC 4180 ends every line with both, also one within a text")
	assert.NotContains(t, strings.Join(lines, ""), "\n")
	assert.Equal(t, "position,time,device_time,transition,alarm,model_id,point_name,rule_id,severity,status,suppression,value,threshold,message,by,comment", lines[0])
	assert.Equal(t, "1-0,2026-03-01T12:00:00.000Z,2026-03-01T11:59:58.500Z,raised,1,pv,temperature,hot,medium,active,,-1.500000,1000000.000000,,,", lines[1])
	assert.Contains(t, lines[2], `"'=HYPERLINK(""http://x"",""a, b"")",'+anna,"'-1`)
	assert.Equal(t, `@x"`, lines[3])
	rows, err := csv.NewReader(strings.NewReader(text)).ReadAll()
	require.NoError(t, err)
	for _, row := range rows[1:] {
		require.Len(t, row, 16)
		for i, cell := range row {
			if cell != "" && i != 11 && i != 12 { // numbers may be negative
				assert.NotContains(t, "=+-@", cell[:1], "%s is no formula", cell)
			}
		}
	}
	assert.Equal(t, "'=1+1", rows[2][5])
	assert.Equal(t, text, do(h, "GET", "/alarms/journal/export?format=csv&from=0", "").Body.String())

	rows, err = csv.NewReader(do(h, "GET", "/alarms/journal/export?model=meter", "").Body).ReadAll()
	require.NoError(t, err)
	assert.Len(t, rows, 1, "nothing but the header")
	w = do(h, "GET", "/alarms/journal/export?format=json&model=pv", "")
	assert.Equal(t, `attachment; filename=alarm-journal-plant-a.json`, w.Header().Get("Content-Disposition"))
	var answer struct{ Events []model.AlarmEvent }
	require.NoError(t, json.Unmarshal(w.Body.Bytes(), &answer))
	require.Len(t, answer.Events, 1)
	assert.Equal(t, -1.5, answer.Events[0].Value)
	assert.JSONEq(t, `{"events":[]}`, do(h, "GET", "/alarms/journal/export?format=json&to=1", "").Body.String())
	assert.Empty(t, ask(h, "HEAD", "/alarms/journal/export", "").Body.String())
	for query, want := range map[string]string{"format=xls": "want csv or json", "models=pv": "models", "from=x": "RFC 3339", "model=a%20b": "model: id"} {
		w := do(h, "GET", "/alarms/journal/export?"+query, "")
		assert.Equal(t, 400, w.Code)
		assert.Contains(t, w.Body.String(), want)
		assert.Empty(t, w.Header().Get("Content-Disposition"))
	}
}

// A long journal goes out in pages, and ends where it ended when the export began.
func TestExportIsRead(t *testing.T) {
	t.Parallel()
	for _, n := range []int{0, 1, exportPage - 1, exportPage, exportPage + 1, 5*exportPage + 7} {
		for _, format := range []string{"csv", "json"} {
			site := &longJournal{fakeSite: newFakeSite(), n: n, grow: true}
			w := do(newHandler(t, site, nil), "GET", "/alarms/journal/export?format="+format, "")
			require.Equal(t, 200, w.Code)
			if format == "csv" {
				rows, err := csv.NewReader(w.Body).ReadAll()
				require.NoError(t, err)
				require.Len(t, rows, n+1)
			} else {
				var answer struct{ Events []model.AlarmEvent }
				require.NoError(t, json.Unmarshal(w.Body.Bytes(), &answer))
				require.Len(t, answer.Events, n)
			}
			assert.LessOrEqual(t, site.most.Load(), int64(exportPage))
			assert.LessOrEqual(t, site.reads.Load(), int64(n/exportPage+1))
		}
	}
}

// What cannot be told any more by a status cuts the connection.
func TestExportFails(t *testing.T) {
	t.Parallel()
	site := &longJournal{fakeSite: newFakeSite(), n: 10 * exportPage, fail: 1}
	server := httptest.NewServer(newHandler(t, site, nil))
	defer server.Close()
	get := func() (*http.Response, []byte, error) {
		res, err := http.Get(server.URL + "/alarms/journal/export")
		require.NoError(t, err)
		defer res.Body.Close()
		body, err := io.ReadAll(res.Body)
		return res, body, err
	}
	res, _, err := get()
	require.NoError(t, err)
	assert.Equal(t, 500, res.StatusCode)
	site.reads.Store(0)
	site.fail = 3
	res, body, err := get()
	assert.Equal(t, 200, res.StatusCode)
	assert.ErrorIs(t, err, io.ErrUnexpectedEOF)
	assert.Contains(t, string(body), "\r\n")
}

// The export of a client that goes ends.
func TestExportStopsWithItsClient(t *testing.T) {
	t.Parallel()
	site := &longJournal{fakeSite: newFakeSite(), n: 10 * exportPage, ended: make(chan error, 1)}
	server := httptest.NewServer(newHandler(t, site, nil))
	defer server.Close()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, "GET", server.URL+"/alarms/journal/export", nil)
	require.NoError(t, err)
	res, err := http.DefaultClient.Do(r)
	require.NoError(t, err)
	defer res.Body.Close()
	line, err := bufio.NewReader(res.Body).ReadString('\n')
	require.NoError(t, err)
	assert.Contains(t, line, "position,")
	require.NoError(t, <-site.ended)
	cancel()
	require.ErrorIs(t, <-site.ended, context.Canceled)
	assert.EqualValues(t, 2, site.reads.Load())
}
