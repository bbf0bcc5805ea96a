package api

import (
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/voltageems/voltage/model"
)

// notSuppressed stands in queries for alarms that nothing keeps from being told.
const notSuppressed = "none"

// plainQuery reports whether a query wants all open alarms, or all of one open
// status.
func plainQuery(query url.Values) (model.AlarmStatus, bool) {
	switch {
	case len(query) == 0:
		return "", true
	case len(query) > 1 || len(query["state"]) != 1:
		return "", false
	}
	status := model.AlarmStatus(query.Get("state"))
	return status, slices.Contains(model.AlarmStatuses(), status) && status.Open()
}

func alarmQuery(query url.Values) (q model.AlarmQuery, err error) {
	if err := parameters(query, "state", "severity", "model", "point", "rule", "suppression", "from", "to", "closed", "newest", "limit", "after"); err != nil {
		return q, err
	}
	suppressions := append(texts(model.Suppressions()), notSuppressed)
	states, err := choices(query, "state", append(texts(model.AlarmStatuses()), suppressions...))
	if err != nil {
		return q, err
	}
	more, err := choices(query, "suppression", suppressions)
	if err != nil {
		return q, err
	}
	for _, s := range append(states, more...) {
		if slices.Contains(suppressions, s) {
			q.Suppressions = append(q.Suppressions, model.Suppression(strings.TrimPrefix(s, notSuppressed)))
		} else {
			q.States = append(q.States, model.AlarmStatus(s))
		}
	}
	severities, err := choices(query, "severity", texts(model.Severities()))
	if err != nil {
		return q, err
	}
	for _, s := range severities {
		q.Severities = append(q.Severities, model.Severity(s))
	}
	q.Model, q.Point, q.Rule, q.After = query.Get("model"), query.Get("point"), query.Get("rule"), query.Get("after")
	if q.From, q.To, err = period(query); err != nil {
		return q, err
	}
	if q.Closed, err = flag(query, "closed"); err != nil {
		return q, err
	}
	if q.Newest, err = flag(query, "newest"); err != nil {
		return q, err
	}
	if q.Limit, err = limit(query, model.MaxAlarmLimit, model.MaxAlarmLimit); err != nil {
		return q, err
	}
	return q, q.Validate()
}

// parameters refuses parameters that are not in the list: a misspelt one would select too
// much.
func parameters(query url.Values, names ...string) error {
	for name, values := range query {
		if !slices.Contains(names, name) {
			return problemf(http.StatusBadRequest, "%.40q is no parameter here: there are %s", name, strings.Join(names, ", "))
		}
		if len(values) > 1 {
			return problemf(http.StatusBadRequest, "%s is given %d times: separate values by commas", name, len(values))
		}
	}
	return nil
}

// flag reads 0 or 1; nothing is 0.
func flag(query url.Values, name string) (bool, error) {
	switch text := query.Get(name); text {
	case "", "0", "false":
		return false, nil
	case "1", "true":
		return true, nil
	default:
		return false, problemf(http.StatusBadRequest, "%s=%.20q: want 0 or 1", name, text)
	}
}

// choices reads a list separated by commas, of which each must be among all there are.
func choices(query url.Values, name string, all []string) ([]string, error) {
	text := query.Get(name)
	if text == "" {
		return nil, nil
	}
	list := strings.Split(text, ",")
	for _, one := range list {
		if !slices.Contains(all, one) {
			return nil, problemf(http.StatusBadRequest, "%s=%.20q: want %s", name, one, strings.Join(all, ", "))
		}
	}
	return list, nil
}

// texts returns names as texts.
func texts[T ~string](names []T) []string {
	list := make([]string, len(names))
	for i, name := range names {
		list[i] = string(name)
	}
	return list
}

// period reads from and to; zero where they are not given.
func period(query url.Values) (from, to time.Time, err error) {
	if from, err = moment(query, "from"); err != nil {
		return from, to, err
	}
	to, err = moment(query, "to")
	return from, to, err
}

// moment reads a time, RFC 3339 or milliseconds since 1970.
func moment(query url.Values, name string) (time.Time, error) {
	text := query.Get(name)
	if text == "" {
		return time.Time{}, nil
	}
	if ms, err := strconv.ParseUint(text, 10, 47); err == nil { // to the year 6429
		return time.UnixMilli(int64(ms)), nil
	}
	t, err := time.Parse(time.RFC3339Nano, text)
	if err != nil || t.UnixMilli() < 0 {
		return t, problemf(http.StatusBadRequest, "%s=%.40q: want RFC 3339, such as 2026-03-01T12:00:00Z with a + written as %%2B, or milliseconds since 1970", name, text)
	}
	return t, nil
}

// limit reads how many entries an answer is to have at most.
func limit(query url.Values, usual, most int) (int, error) {
	text := query.Get("limit")
	if text == "" {
		return usual, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 || n > most {
		return 0, problemf(http.StatusBadRequest, "limit=%.20q: want 1 to %d", text, most)
	}
	return n, nil
}
