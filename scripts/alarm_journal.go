package scripts

import (
	"cmp"
	"context"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/voltageems/voltage/model"
)

// AlarmJournal returns transitions after a position; "" is the oldest kept.
func (p *Plane) AlarmJournal(ctx context.Context, after string, limit int) ([]model.AlarmEvent, error) {
	entries, err := p.read(ctx, p.keys.alarmJournal(), after, limit)
	if err != nil {
		return nil, err
	}
	list := make([]model.AlarmEvent, len(entries))
	for i, e := range entries {
		list[i] = alarmEvent(e)
	}
	return list, nil
}

// AlarmJournalRange returns the selected transitions, in order or, with Newest,
// from the last one back. The next page begins after the last position of this one.
// The journal keeps the last 100,000 or so.
func (p *Plane) AlarmJournalRange(ctx context.Context, q model.AlarmJournalQuery) ([]model.AlarmEvent, error) {
	if err := q.Validate(); err != nil {
		return nil, err
	}
	limit, list := cmp.Or(q.Limit, model.DefaultAlarmLimit), []model.AlarmEvent{}
	from, to := p.journalBounds(q)
	count := int64(alarmsAtOnce)
	if q.Alarm == "" && q.Model == "" && q.Point == "" && q.Rule == "" && p.options.Now == nil {
		count = int64(limit) // every entry is wanted
	}
	for !to.less(from) {
		page, err := p.journalPage(ctx, from, to, q.Newest, count)
		if err != nil {
			return nil, err
		}
		for _, entry := range page {
			e := alarmEvent(entry)
			if !q.Matches(e) || p.options.Now != nil && !within(e.Time, q.From, q.To) {
				continue
			}
			if list = append(list, e); len(list) == limit {
				return list, nil
			}
		}
		if len(page) < int(count) {
			break
		}
		if last := parsePlace(page[len(page)-1].ID); !q.Newest {
			from = last.next()
		} else if last == (place{}) {
			break
		} else {
			to = last.previous()
		}
	}
	return list, nil
}

func (p *Plane) journalPage(ctx context.Context, from, to place, newest bool, count int64) (page []redis.XMessage, err error) {
	if newest {
		page, err = p.client.XRevRangeN(ctx, p.keys.alarmJournal(), to.String(), from.String(), count).Result()
	} else {
		page, err = p.client.XRangeN(ctx, p.keys.alarmJournal(), from.String(), to.String(), count).Result()
	}
	return page, storeError("reading the alarm journal", err)
}

// journalBounds are the first and last places of the selected entries. A place
// begins with the time of the store's own clock: while the scripts have another
// one, as in tests, times tell nothing of places.
func (p *Plane) journalBounds(q model.AlarmJournalQuery) (from, to place) {
	to = place{math.MaxUint64, math.MaxUint64}
	if p.options.Now == nil {
		if !q.From.IsZero() {
			from = placeAt(q.From)
		}
		if !q.To.IsZero() {
			to = placeAt(q.To).previous()
		}
	}
	if q.After == "" {
		return from, to
	}
	after := parsePlace(q.After)
	switch {
	case !q.Newest && from.less(after.next()):
		from = after.next()
	case q.Newest && after == (place{}):
		from, to = place{1, 0}, place{} // there is nothing before the first place
	case q.Newest && after.less(to):
		to = after.previous()
	}
	return from, to
}

func within(t, from, to time.Time) bool {
	return (from.IsZero() || !t.Before(from)) && (to.IsZero() || t.Before(to))
}

// place is a position in a stream, as numbers.
type place struct{ ms, sequence uint64 }

// parsePlace reads a position; what is none is the first place.
func parsePlace(position string) place {
	m, s, _ := strings.Cut(position, "-")
	ms, _ := strconv.ParseUint(m, 10, 64)
	sequence, _ := strconv.ParseUint(s, 10, 64)
	return place{ms, sequence}
}

// placeAt is the first place of a time.
func placeAt(t time.Time) place { return place{uint64(max(t.UnixMilli(), 0)), 0} }

func (p place) String() string {
	return strconv.FormatUint(p.ms, 10) + "-" + strconv.FormatUint(p.sequence, 10)
}

func (p place) less(o place) bool { return p.ms < o.ms || p.ms == o.ms && p.sequence < o.sequence }

func (p place) next() place {
	if p.sequence == math.MaxUint64 {
		return place{p.ms + 1, 0}
	}
	return place{p.ms, p.sequence + 1}
}

// previous is the place before one that is not the first; of that it is itself.
func (p place) previous() place {
	switch {
	case p.sequence > 0:
		return place{p.ms, p.sequence - 1}
	case p.ms > 0:
		return place{p.ms - 1, math.MaxUint64}
	}
	return p
}

// alarmEvent reads an entry of the journal, in which another program may have
// written what it likes.
func alarmEvent(e redis.XMessage) model.AlarmEvent {
	get := func(name string) string { return text(e.Values, name) }
	return model.AlarmEvent{
		Position: e.ID, Transition: model.AlarmTransition(get("transition")), Time: millis(get("time")), DeviceTime: millis(get("device_time")),
		Alarm: get("alarm"), Model: get("model_id"), Point: get("point_name"), Rule: get("rule_id"),
		Severity: model.Severity(get("severity")), Status: model.AlarmStatus(get("status")), Suppression: model.Suppression(get("suppression")),
		Value: float(get("value")), Threshold: float(get("threshold")),
		Message: get("message"), By: get("by"), Comment: get("comment"),
	}
}

// AlarmJournalEnd returns the position of the newest entry.
func (p *Plane) AlarmJournalEnd(ctx context.Context) (string, error) {
	return p.end(ctx, p.keys.alarmJournal())
}
