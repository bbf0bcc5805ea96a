package api

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/voltageems/voltage/model"
	"github.com/voltageems/voltage/scripts"
)

func (s *fakeSite) AlarmStore() (AlarmStore, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s, s.errs["AlarmStore"]
}

// broken returns what the methods of the AlarmStore are to answer. The caller holds mu.
func (s *fakeSite) broken(method string) error {
	if s.desks != nil && !s.panics {
		return s.desks
	}
	return s.failing(method)
}

// find returns the place of the open alarm of that id or rule, -1 where there is
// none. The caller holds mu.
func (s *fakeSite) find(alarm string) int {
	return slices.IndexFunc(s.alarms, func(a model.Alarm) bool {
		return a.Status.Open() && (a.ID == alarm || model.AlarmRef(a.Model, a.Point, a.Rule) == alarm)
	})
}

// desk does something to an alarm, or to a rule that has none.
func (s *fakeSite) desk(method, alarm string, do func(*model.Alarm) error) (model.Alarm, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.broken(method); err != nil {
		return model.Alarm{}, err
	}
	at := s.find(alarm)
	if at < 0 {
		if rule, ok := s.rules[alarm]; ok {
			a := model.Alarm{Model: rule.Model, Point: rule.Point, Rule: rule.ID}
			return a, do(&a)
		}
		return model.Alarm{}, fmt.Errorf("alarm %s: %w", alarm, scripts.ErrNotFound)
	}
	if err := do(&s.alarms[at]); err != nil {
		return model.Alarm{}, err
	}
	a := s.alarms[at]
	if a.Status == model.AlarmClosed {
		s.alarms = slices.Delete(s.alarms, at, at+1)
	}
	return a, nil
}

func (s *fakeSite) Alarm(_ context.Context, id string) (model.Alarm, error) {
	return s.desk("Alarm", id, func(*model.Alarm) error { return nil })
}

// QueryAlarms goes by id, as the plane does.
func (s *fakeSite) QueryAlarms(_ context.Context, q model.AlarmQuery) ([]model.Alarm, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.broken("QueryAlarms"); err != nil {
		return nil, err
	}
	all := slices.Clone(s.alarms)
	slices.SortFunc(all, func(a, b model.Alarm) int { return len(a.ID)*10 + int(a.ID[0]) - len(b.ID)*10 - int(b.ID[0]) })
	var found []model.Alarm
	for _, a := range all {
		if q.Matches(a) && a.ID > q.After && len(found) < q.Limit {
			found = append(found, a)
		}
	}
	return found, nil
}

func (s *fakeSite) AlarmCounts(context.Context) (model.AlarmCounts, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := model.AlarmCounts{Open: len(s.alarms), Statuses: map[model.AlarmStatus]int{}, Severities: map[model.Severity]int{},
		Suppressions: map[model.Suppression]int{}, Unacknowledged: map[model.Severity]int{}, Unannounced: len(s.quiet)}
	for _, a := range s.alarms {
		c.Statuses[a.Status]++
		c.Severities[a.Severity]++
		if a.Suppression != "" {
			c.Suppressions[a.Suppression]++
		} else if a.Status == model.AlarmActive || a.Status == model.AlarmCleared {
			c.Unacknowledged[a.Severity]++
		}
		if a.Chattering {
			c.Chattering++
		}
	}
	return c, s.broken("AlarmCounts")
}

func (s *fakeSite) AlarmJournalRange(_ context.Context, q model.AlarmJournalQuery) ([]model.AlarmEvent, error) {
	if err := q.Validate(); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	events := slices.Clone(s.events)
	if q.Newest {
		slices.Reverse(events)
	}
	var found []model.AlarmEvent
	for _, ev := range events {
		behind := q.After == "" || !q.Newest && newer(ev.Position, q.After) || q.Newest && newer(q.After, ev.Position)
		in := !ev.Time.Before(q.From) && (q.To.IsZero() || ev.Time.Before(q.To))
		if behind && in && q.Matches(ev) && len(found) < q.Limit {
			found = append(found, ev)
		}
	}
	return found, s.broken("AlarmJournalRange")
}

func (s *fakeSite) UnannouncedAlarms(context.Context) ([]model.Unannounced, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []model.Unannounced
	for _, ref := range slices.Sorted(maps.Keys(s.quiet)) {
		all = append(all, s.quiet[ref])
	}
	return all, s.broken("UnannouncedAlarms")
}

func (s *fakeSite) Acknowledge(_ context.Context, id, by, comment string) (model.Alarm, error) {
	return s.desk("Acknowledge", id, func(a *model.Alarm) error {
		switch a.Status {
		case model.AlarmActive:
			a.Status = model.AlarmAcknowledged
		case model.AlarmCleared:
			a.Status = model.AlarmClosed
		}
		a.AcknowledgedBy, a.Comment, a.Acknowledged = by, comment, s.now
		return nil
	})
}

func (s *fakeSite) AcknowledgeMany(ctx context.Context, ids []string, by, comment string) (changed int, err error) {
	for _, id := range ids {
		a, err := s.Alarm(ctx, id)
		if err == nil && a.Status != model.AlarmAcknowledged && (a.Status != model.AlarmLatched || a.Acknowledged.IsZero()) {
			changed++
			_, err = s.Acknowledge(ctx, id, by, comment)
		}
		if err != nil && s.desks != nil {
			return changed, err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return changed, s.broken("AcknowledgeMany")
}

func (s *fakeSite) AcknowledgeAll(ctx context.Context, q model.AlarmQuery, by, comment string) (changed int, err error) {
	if err := q.Validate(); err != nil {
		return 0, err
	}
	q.Limit = model.MaxAlarmLimit
	alarms, err := s.QueryAlarms(ctx, q)
	if err != nil {
		return 0, err
	}
	var ids []string
	for _, a := range alarms {
		ids = append(ids, a.ID)
	}
	return s.AcknowledgeMany(ctx, ids, by, comment)
}

func (s *fakeSite) CloseAlarm(_ context.Context, id, by, comment string) (model.Alarm, error) {
	return s.desk("CloseAlarm", id, func(a *model.Alarm) error {
		a.Status, a.AcknowledgedBy, a.Comment = model.AlarmClosed, by, comment
		return nil
	})
}

func (s *fakeSite) ResetAlarm(_ context.Context, id, _, _ string) (model.Alarm, error) {
	return s.desk("ResetAlarm", id, func(a *model.Alarm) error {
		if a.Status != model.AlarmLatched {
			return fmt.Errorf("alarm %s: %w", id, scripts.ErrConflict)
		}
		a.Status = model.AlarmClosed
		return nil
	})
}

// hush notes why nobody is told of a rule.
func (s *fakeSite) hush(a *model.Alarm, kind model.Suppression, by, reason string, until time.Time) {
	if s.quiet == nil {
		s.quiet = map[string]model.Unannounced{}
	}
	s.quiet[model.AlarmRef(a.Model, a.Point, a.Rule)] = model.Unannounced{Model: a.Model, Point: a.Point, Rule: a.Rule,
		Kind: kind, Until: until, By: by, Reason: reason, Since: s.now}
	a.Suppression, a.ShelvedUntil, a.Reason, a.SuppressedBy = kind, until, reason, by
}

func (s *fakeSite) speak(a *model.Alarm) error {
	delete(s.quiet, model.AlarmRef(a.Model, a.Point, a.Rule))
	a.Suppression, a.ShelvedUntil, a.Reason, a.SuppressedBy = "", time.Time{}, "", ""
	return nil
}

func (s *fakeSite) Shelve(_ context.Context, alarm, by, reason string, d time.Duration) (model.Alarm, error) {
	return s.desk("Shelve", alarm, func(a *model.Alarm) error {
		s.hush(a, model.Shelved, by, reason, s.now.Add(d))
		return nil
	})
}

func (s *fakeSite) Unshelve(_ context.Context, alarm, _, _ string) (model.Alarm, error) {
	return s.desk("Unshelve", alarm, s.speak)
}

func (s *fakeSite) OutOfService(_ context.Context, alarm, by, reason string) (model.Alarm, error) {
	return s.desk("OutOfService", alarm, func(a *model.Alarm) error {
		s.hush(a, model.OutOfService, by, reason, time.Time{})
		return nil
	})
}

func (s *fakeSite) InService(_ context.Context, alarm, _, _ string) (model.Alarm, error) {
	return s.desk("InService", alarm, s.speak)
}

func (s *fakeSite) AllAlarmRules(context.Context) (rules []model.AlarmRule, problems []string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, ref := range slices.Sorted(maps.Keys(s.rules)) {
		if s.rules[ref].Operator != "" {
			rules = append(rules, s.rules[ref])
		} else {
			problems = append(problems, "alarm rule "+ref+": no operator")
		}
	}
	return rules, problems, s.broken("AllAlarmRules")
}

func (s *fakeSite) AlarmRule(_ context.Context, modelID, point, id string) (model.AlarmRule, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	rule, ok := s.rules[model.AlarmRef(modelID, point, id)]
	if err := s.broken("AlarmRule"); err != nil || !ok {
		return rule, cmpErr(err, fmt.Errorf("alarm rule %s: %w", id, scripts.ErrNotFound))
	}
	if rule.Operator == "" {
		return rule, fmt.Errorf("%w: alarm rule %s: no operator", model.ErrInvalid, id)
	}
	return rule, nil
}

func cmpErr(err, other error) error {
	if err != nil {
		return err
	}
	return other
}

func (s *fakeSite) PutAlarmRule(_ context.Context, r model.AlarmRule) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rules[model.AlarmRef(r.Model, r.Point, r.ID)] = r
	return s.broken("PutAlarmRule")
}

func (s *fakeSite) DropAlarmRule(_ context.Context, modelID, point, id string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	ref := model.AlarmRef(modelID, point, id)
	if _, ok := s.rules[ref]; !ok {
		return fmt.Errorf("alarm rule %s: %w", ref, scripts.ErrNotFound)
	}
	delete(s.rules, ref)
	return s.broken("DropAlarmRule")
}
