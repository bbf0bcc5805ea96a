package model

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Bounds of AlarmQuery.Limit and AlarmJournalQuery.Limit.
const (
	DefaultAlarmLimit = 100
	MaxAlarmLimit     = 1000
)

// Bounds of how long an alarm is shelved.
const (
	MinShelving = time.Minute
	MaxShelving = 7 * 24 * time.Hour
)

// AlarmQuery selects alarms. The zero value is every open one, the oldest first.
type AlarmQuery struct {
	// States are the statuses that are wanted; none are all but closed.
	States []AlarmStatus
	// Closed adds the closed ones, of which the last 10,000 are kept, 30 days at most.
	Closed bool
	// Severities and Suppressions are those that are wanted, none are all. An
	// empty Suppression stands for alarms that nothing suppresses.
	Severities   []Severity
	Suppressions []Suppression
	// Model, Point and Rule are whose alarms are wanted; empty is everybody's.
	Model, Point, Rule string
	// From and To bound when the alarm was raised: at From or later, and before
	// To. Zero is no bound.
	From, To time.Time
	// Newest begins with the alarm that was raised last.
	Newest bool
	// Limit is how many are returned at most, 1 to MaxAlarmLimit; zero is
	// DefaultAlarmLimit.
	Limit int
	// After is the id of the last alarm of the page before; empty is the beginning.
	// Alarms that come and go meanwhile make no page repeat or leave out another.
	After string
}

// Validate returns an ErrInvalid that names the field.
func (q AlarmQuery) Validate() error {
	for _, s := range q.States {
		if !slices.Contains(AlarmStatuses(), s) {
			return fmt.Errorf("%w: state %.20q: want %s", ErrInvalid, string(s), listOf(AlarmStatuses()))
		}
	}
	for _, s := range q.Severities {
		if !s.Valid() {
			return fmt.Errorf("%w: severity %.20q: want %s", ErrInvalid, string(s), listOf(Severities()))
		}
	}
	for _, s := range q.Suppressions {
		if s != "" && !slices.Contains(Suppressions(), s) {
			return fmt.Errorf("%w: suppression %.20q: want %s, or none", ErrInvalid, string(s), listOf(Suppressions()))
		}
	}
	if err := checkWhose(q.Model, q.Point, q.Rule); err != nil {
		return err
	}
	if q.After != "" && !alarmID(q.After) {
		return fmt.Errorf("%w: after %.40q: want the id of an alarm", ErrInvalid, q.After)
	}
	return checkRange(q.From, q.To, q.Limit)
}

// WantsOpen and WantsClosed report whether alarms that are open, or closed, can
// be among the selected ones.
func (q AlarmQuery) WantsOpen() bool {
	return len(q.States) == 0 || slices.ContainsFunc(q.States, AlarmStatus.Open)
}

// WantsClosed is described with WantsOpen.
func (q AlarmQuery) WantsClosed() bool { return q.Closed || slices.Contains(q.States, AlarmClosed) }

// Matches reports whether an alarm is selected. Limit and After do not count.
func (q AlarmQuery) Matches(a Alarm) bool {
	switch {
	case a.Status == AlarmClosed && !q.WantsClosed(),
		a.Status != AlarmClosed && len(q.States) > 0 && !slices.Contains(q.States, a.Status),
		len(q.Severities) > 0 && !slices.Contains(q.Severities, a.Severity),
		len(q.Suppressions) > 0 && !slices.Contains(q.Suppressions, a.Suppression),
		q.Model != "" && a.Model != q.Model, q.Point != "" && a.Point != q.Point, q.Rule != "" && a.Rule != q.Rule,
		!q.From.IsZero() && a.Raised.Before(q.From), !q.To.IsZero() && !a.Raised.Before(q.To):
		return false
	}
	return true
}

// AlarmJournalQuery selects entries of the alarm journal. The zero value is all of
// them, the oldest first.
type AlarmJournalQuery struct {
	// From and To bound the time of the transition by the store's clock: at From
	// or later, and before To. Zero is no bound.
	From, To time.Time
	// Alarm, Model, Point and Rule are whose transitions are wanted; empty is
	// everybody's.
	Alarm, Model, Point, Rule string
	// Newest begins with the last transition and goes back.
	Newest bool
	// Limit is how many are returned at most, 1 to MaxAlarmLimit; zero is
	// DefaultAlarmLimit. Fewer than that is the end.
	Limit int
	// After is the position of the last entry of the page before; empty is the
	// beginning, which with Newest is the journal's end.
	After string
}

// Validate returns an ErrInvalid that names the field.
func (q AlarmJournalQuery) Validate() error {
	if err := checkWhose(q.Model, q.Point, q.Rule); err != nil {
		return err
	}
	if q.Alarm != "" && !alarmID(q.Alarm) {
		return fmt.Errorf("%w: alarm %.40q: want the id of an alarm", ErrInvalid, q.Alarm)
	}
	if q.After != "" && !JournalPosition(q.After) {
		return fmt.Errorf("%w: after %.50q: want the position of an entry", ErrInvalid, q.After)
	}
	return checkRange(q.From, q.To, q.Limit)
}

// Matches reports whether an entry is of the alarm, model, point and rule that
// are wanted.
func (q AlarmJournalQuery) Matches(e AlarmEvent) bool {
	return (q.Alarm == "" || e.Alarm == q.Alarm) && (q.Model == "" || e.Model == q.Model) &&
		(q.Point == "" || e.Point == q.Point) && (q.Rule == "" || e.Rule == q.Rule)
}

// JournalPosition reports whether s has the form of a position in a journal: a
// number, or two with a hyphen between.
func JournalPosition(s string) bool {
	first, second, two := strings.Cut(s, "-")
	return alarmID(first) && (!two || alarmID(second))
}

// alarmID reports whether s is a decimal number of at most 19 digits.
func alarmID(s string) bool {
	return s != "" && len(s) <= 19 && (s[0] != '0' || s == "0") && !strings.ContainsFunc(s, func(r rune) bool { return r < '0' || r > '9' })
}

func checkWhose(modelID, point, rule string) error {
	for _, f := range []struct{ what, id string }{{"model", modelID}, {"point", point}, {"rule", rule}} {
		if f.id != "" {
			if err := CheckID(f.what, f.id); err != nil {
				return err
			}
		}
	}
	return nil
}

func checkRange(from, to time.Time, limit int) error {
	switch {
	case !from.IsZero() && !to.IsZero() && !to.After(from):
		return fmt.Errorf("%w: to %s: want a time after from, %s", ErrInvalid, to.Format(time.RFC3339), from.Format(time.RFC3339))
	case limit < 0 || limit > MaxAlarmLimit:
		return fmt.Errorf("%w: limit %d: want 1 to %d", ErrInvalid, limit, MaxAlarmLimit)
	}
	return nil
}

func listOf[T ~string](all []T) string {
	texts := make([]string, len(all))
	for i, s := range all {
		texts[i] = string(s)
	}
	return strings.Join(texts, ", ")
}

// AlarmCounts is how many alarms there are.
type AlarmCounts struct {
	// Open counts all that are not closed.
	Open int `json:"open"`
	// Statuses, Severities and Suppressions count the open ones by each value that
	// occurs; those that nothing suppresses are in no suppression.
	Statuses     map[AlarmStatus]int `json:"statuses"`
	Severities   map[Severity]int    `json:"severities"`
	Suppressions map[Suppression]int `json:"suppressions"`
	// Unacknowledged counts, by severity, those that want somebody now: nobody took
	// note of them, and nothing suppresses them.
	Unacknowledged map[Severity]int `json:"unacknowledged"`
	// Chattering counts the open ones that are held because they came and went too
	// often.
	Chattering int `json:"chattering"`
	// Unannounced counts the rules that are shelved or out of service.
	Unannounced int `json:"unannounced"`
	// Closed counts the closed ones whose records are kept.
	Closed int `json:"closed"`
}

// AlarmRef names a rule's alarm in calls that take an alarm's id or this: a rule
// can be shelved or taken out of service while no alarm of it is open.
func AlarmRef(modelID, point, rule string) string { return modelID + ":" + point + ":" + rule }

// CheckAlarm returns an ErrInvalid unless s is the id of an alarm, or names a rule
// as AlarmRef does.
func CheckAlarm(s string) error {
	if alarmID(s) {
		return nil
	}
	parts := strings.Split(s, ":")
	if len(parts) != 3 {
		return fmt.Errorf("%w: alarm %.80q: want the id of an alarm, or model:point:rule", ErrInvalid, s)
	}
	for i, what := range []string{"model", "point", "rule"} {
		if err := CheckID(what, parts[i]); err != nil {
			return fmt.Errorf("alarm %.80q: %w", s, err)
		}
	}
	return nil
}

// AlarmEventColumns names the columns of AlarmEvent.Row.
func AlarmEventColumns() []string {
	return []string{"position", "time", "device_time", "transition", "alarm", "model_id", "point_name", "rule_id",
		"severity", "status", "suppression", "value", "threshold", "message", "by", "comment"}
}

// Row returns the entry as texts for a table, such as a CSV file. Times are RFC
// 3339 in UTC with milliseconds. A text has an apostrophe before it where a spreadsheet
// would take it for a formula: other programs and people write them.
func (e AlarmEvent) Row() []string {
	at := func(t time.Time) string {
		if t.IsZero() {
			return ""
		}
		return t.UTC().Format("2006-01-02T15:04:05.000Z")
	}
	plain := func(s string) string {
		if s != "" && strings.ContainsRune("=+-@\t\r", rune(s[0])) {
			return "'" + s
		}
		return s
	}
	number := func(v float64) string { return fmt.Sprintf("%.6f", v) }
	return []string{e.Position, at(e.Time), at(e.DeviceTime), plain(string(e.Transition)), plain(e.Alarm), plain(e.Model), plain(e.Point), plain(e.Rule),
		plain(string(e.Severity)), plain(string(e.Status)), plain(string(e.Suppression)), number(e.Value), number(e.Threshold),
		plain(e.Message), plain(e.By), plain(e.Comment)}
}
