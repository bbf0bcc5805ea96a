package api

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/voltageems/voltage/model"
	"github.com/voltageems/voltage/scripts"
)

// start is when the fake site's values were measured.
var start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// fakeSite is a site in memory: 5 models with 80 values.
type fakeSite struct {
	mu       sync.Mutex
	err      error            // what every read answers
	errs     map[string]error // what one method answers, by its name
	boom     bool             // Models panics
	panics   bool             // so does every other method
	desks    error            // what every method of the AlarmStore answers
	channels []model.ChannelStatus
	models   []model.Instance
	points   map[string]map[string]model.Point
	values   map[string]map[string]model.Value
	alarms   []model.Alarm
	rules    map[string]model.AlarmRule // by model.AlarmRef
	quiet    map[string]model.Unannounced
	events   []model.AlarmEvent
	told     []model.CommandEvent
	commands map[string]model.CommandResult
	last     model.Command
	demanded []string                  // channel and points
	now      time.Time                 // when commands are recorded
	reads    int                       // calls of Values
	kept     map[scripts.Answer][]byte // what Cached answers without building; nil keeps nothing
	scripts  fakeScripts
	audit    []model.AuditEntry
	order    []string // the commands as they came
	reject   string   // the control of which commands are rejected
	// end says how commands end; verified when empty.
	end      model.CommandState
	onSubmit func(model.CommandResult)
}

func newFakeSite() *fakeSite {
	s := &fakeSite{
		errs: map[string]error{}, points: map[string]map[string]model.Point{},
		values: map[string]map[string]model.Value{}, commands: map[string]model.CommandResult{}, now: start,
	}
	low, high, one, zero := -100.0, 100.0, 1.0, 0.0
	s.add("meter", "Grid meter", 1001,
		m("active_power", 23.456, "kW"), m("reactive_power", -3.21, "kvar"), m("apparent_power", 23.7, "kVA"), m("frequency", 50.01, "Hz"),
		m("voltage_l1", 231.2, "V"), m("voltage_l2", 230.8, "V"), m("voltage_l3", 232.1, "V"),
		m("current_l1", 34.1, "A"), m("current_l2", 33.2, "A"), m("current_l3", 35.0, "A"),
		m("active_power_l1", 7.8, "kW"), m("active_power_l2", 7.6, "kW"), m("active_power_l3", 8.05, "kW"),
		m("power_factor", 0.987, ""), m("import_energy", 48211.4, "kWh"), m("export_energy", 12034.9, "kWh"),
		sig("importing", 1, nil), sig("voltage_ok", 1, nil),
		model.Point{Name: "demand_period", Kind: model.Adjustment, Unit: "min", Offset: 15, Min: &one, Max: &high})
	s.add("pv", "PV inverter", 1002,
		m("active_power", 61.25, "kW"), m("available_power", 64.1, "kW"), m("dc_voltage", 712.4, "V"), m("dc_current", 87.91, "A"),
		m("ac_voltage", 231.1, "V"), m("ac_current", 88.4, "A"), m("frequency", 50.01, "Hz"), m("temperature", 44.3, "°C"),
		m("irradiance", 812, "W/m²"), m("energy_total", 218834.5, "kWh"), m("energy_today", 231.41, "kWh"),
		sig("state", 2, map[int]string{0: "Off", 1: "Starting", 2: "Running", 3: "Fault"}), sig("producing", 1, nil), sig("limited", 0, nil),
		model.Point{Name: "power_limit", Kind: model.Control, Unit: "%", Offset: 100, Min: &zero, Max: &high},
		model.Point{Name: "run", Kind: model.Control, Offset: 1, Min: &zero, Max: &one, Step: 1})
	s.add("pcs1", "Battery converter", 1003,
		m("active_power", -38.4, "kW"), m("reactive_power", 0, "kvar"), m("apparent_power", 38.4, "kVA"), m("ac_voltage", 231.3, "V"),
		m("ac_current", 55.4, "A"), m("dc_voltage", 768.2, "V"), m("dc_current", -48.9, "A"), m("temperature", 41.7, "°C"),
		m("frequency", 50.01, "Hz"), m("discharged_energy", 9123.4, "kWh"), m("charged_energy", 9877.1, "kWh"),
		sig("state", 2, map[int]string{0: "Off", 1: "Standby", 2: "Running", 3: "Fault"}),
		sig("running", 1, nil), sig("fault", 0, nil), sig("derated", 0, nil),
		model.Point{Name: "active_power_setpoint", Kind: model.Control, Unit: "kW", Offset: -40, Min: &low, Max: &high},
		model.Point{Name: "start", Kind: model.Control, Offset: 1, Min: &zero, Max: &one, Step: 1},
		model.Point{Name: "ramp_rate", Kind: model.Adjustment, Unit: "kW/s", Offset: 20, Min: &one, Max: &high})
	s.add("bms1", "Battery", 1004,
		m("soc", 63.42, "%"), m("soh", 98.1, "%"), m("voltage", 768.9, "V"), m("current", -48.7, "A"), m("power", -37.4, "kW"),
		m("temperature_max", 31.4, "°C"), m("temperature_avg", 29.8, "°C"), m("temperature_min", 28.1, "°C"),
		m("cell_voltage_max", 3.3421, "V"), m("cell_voltage_min", 3.3298, "V"), m("charge_limit", 100, "kW"), m("discharge_limit", 100, "kW"),
		m("stored_energy", 136.3, "kWh"), sig("contactor_closed", 1, nil), sig("over_temperature", 0, nil), sig("tripped", 0, nil),
		model.Point{Name: "serial_number", Text: true, Unit: "BAT-2026-00017"},
		model.Point{Name: "soc_min", Kind: model.Adjustment, Unit: "%", Offset: 10, Min: &zero, Max: &high})
	s.add("weather", "weather", 1005,
		m("outside_temperature", 11.2, "°C"), m("humidity", 63, "%"), m("wind_speed", 4.1, "m/s"), m("irradiance", 810, "W/m²"),
		m("air_pressure", 1013.2, "hPa"), m("rain", 0, "mm/h"), m("module_temperature", 32.6, "°C"), m("cloud_cover", 22, "%"),
		m("forecast_power", 58.2, "kW"))
	s.models[4].Disabled = true
	for name, q := range map[string]model.Quality{"humidity": model.Offline, "wind_speed": model.Stale, "rain": model.Uncertain} {
		v := s.values["weather"][name]
		v.Quality = q
		s.values["weather"][name] = v
	}
	s.values["weather"]["forecast_power"] = model.Value{Quality: model.Offline, Unit: "kW"} // never good
	s.channels[4].State, s.channels[4].LastError = model.ChannelOffline, "connecting 192.168.1.15:502: connection refused"
	s.channels[4].LastErrorAt, s.channels[4].Errors, s.channels[4].LastScan = start.Add(-time.Minute), 17, start.Add(-4*time.Minute)
	s.alarms = []model.Alarm{
		{ID: "2", Model: "bms1", Point: "temperature_max", Rule: "hot", Severity: model.Critical, Status: model.AlarmActive,
			Message: "Battery is too hot", Value: 61.2, Threshold: 60, Raised: start.Add(-3 * time.Minute), Count: 1},
		{ID: "1", Model: "meter", Point: "active_power", Rule: "peak", Severity: model.Medium, Status: model.AlarmAcknowledged,
			Value: 82.5, Threshold: 80, Raised: start.Add(-time.Hour), Count: 3, AcknowledgedBy: "anna", Acknowledged: start},
	}
	s.rules = map[string]model.AlarmRule{}
	for _, a := range s.alarms {
		s.rules[model.AlarmRef(a.Model, a.Point, a.Rule)] = model.AlarmRule{ID: a.Rule, Model: a.Model, Point: a.Point, Operator: model.Above,
			Threshold: a.Threshold, Hysteresis: 1, OnDelay: time.Second, Severity: a.Severity, Message: a.Message}
	}
	s.events = []model.AlarmEvent{
		{Position: "1-0", Transition: model.TransitionRaised, Time: start, Alarm: "1", Severity: model.Medium, Status: model.AlarmActive},
		{Position: "2-0", Transition: model.TransitionRaised, Time: start, Alarm: "2", Severity: model.Critical, Status: model.AlarmActive},
	}
	return s
}

func m(name string, v float64, unit string) model.Point {
	return model.Point{Name: name, Offset: v, Unit: unit}
}

func sig(name string, v float64, labels map[int]string) model.Point {
	return model.Point{Name: name, Kind: model.Signal, Offset: v, Labels: labels}
}

// add makes a channel and a model of it; a point's Offset is its value.
func (s *fakeSite) add(id, name string, channel int, points ...model.Point) {
	in := model.Instance{
		ID: id, Name: name, Measurements: map[string]string{}, Signals: map[string]string{},
		Controls: map[string]string{}, Adjustments: map[string]string{},
	}
	s.points[id], s.values[id] = map[string]model.Point{}, map[string]model.Value{}
	for i, p := range points {
		in.Bindings(p.Kind)[p.Name] = fmt.Sprintf("%d:%d", channel, i+1)
		v := model.Value{Value: p.Offset, Unit: p.Unit, Kind: p.Kind, Time: start}
		if p.Text {
			v.Text, v.Unit, p.Unit = p.Unit, "", ""
		}
		p.ID, p.Offset = fmt.Sprint(i+1), 0
		s.points[id][p.Name], s.values[id][p.Name] = p, v
	}
	s.models = append(s.models, in)
	s.channels = append(s.channels, model.ChannelStatus{
		ID: fmt.Sprint(channel), Name: name, State: model.ChannelOnline, Since: start.Add(-time.Hour), LastScan: start, Reads: 3600, Samples: 72000,
	})
}

// failing returns what the method is to answer. The caller holds mu.
func (s *fakeSite) failing(method string) error {
	if s.panics {
		panic("boom")
	}
	if err := s.errs[method]; err != nil {
		return err
	}
	return s.err
}

// set changes the site under its lock.
func (s *fakeSite) set(change func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change()
}

func (s *fakeSite) setValue(id, name string, change func(*model.Value)) {
	s.set(func() {
		v := s.values[id][name]
		change(&v)
		s.values[id][name] = v
	})
}

func (s *fakeSite) readCount() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.reads
}

func (s *fakeSite) Name() string { return "plant-a" }

func (s *fakeSite) Ready(context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.failing("Ready")
}

func (s *fakeSite) Channels(context.Context) ([]model.ChannelStatus, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.channels), s.failing("Channels")
}

func (s *fakeSite) ChannelValues(_ context.Context, id string) (map[string]model.Value, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return map[string]model.Value{
		"1": {Value: 0, Unit: "kW"}, "2": {Value: 7, Quality: model.Offline}, "3": {Quality: model.Offline}, "4": {Text: "x", Time: start},
	}, s.failing("ChannelValues")
}

func (s *fakeSite) Demand(id string, points ...string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.boom {
		panic("boom")
	}
	s.demanded = append(s.demanded, id+" "+strings.Join(points, ","))
	if id == "none" {
		return fmt.Errorf("channel none: %w", scripts.ErrNotFound)
	}
	return s.failing("Demand")
}

func (s *fakeSite) Models(context.Context) ([]model.Instance, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.boom {
		panic("boom")
	}
	return slices.Clone(s.models), s.failing("Models")
}

func (s *fakeSite) EnableModel(_ context.Context, id string, enabled bool) (model.Instance, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range s.models {
		if s.models[i].ID == id {
			s.models[i].Disabled = !enabled
			return s.models[i], s.failing("EnableModel")
		}
	}
	return model.Instance{}, fmt.Errorf("model %s: %w", id, scripts.ErrNotFound)
}

func (s *fakeSite) Points(id string) map[string]model.Point { return s.points[id] }

func (s *fakeSite) Values(_ context.Context, id string) (map[string]model.Value, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reads++
	if err := s.failing("Values"); err != nil {
		return nil, err
	}
	values, ok := s.values[id]
	if !ok {
		return nil, fmt.Errorf("model %s: %w", id, scripts.ErrNotFound)
	}
	return maps.Clone(values), nil
}

func (s *fakeSite) ValuesOf(_ context.Context, ids ...string) (map[string]map[string]model.Value, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reads += len(ids)
	all := map[string]map[string]model.Value{}
	for _, id := range ids {
		if values, ok := s.values[id]; ok {
			all[id] = maps.Clone(values)
		}
	}
	return all, s.failing("Values")
}

func (s *fakeSite) CommandJournal(_ context.Context, after string, limit int) ([]model.CommandEvent, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var events []model.CommandEvent
	for _, ev := range s.told {
		if newer(ev.Position, after) && len(events) < limit {
			events = append(events, ev)
		}
	}
	return events, s.failing("CommandJournal")
}

func (s *fakeSite) JournalEnds(context.Context) (alarms, commands string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	alarms, commands = emptyJournal, emptyJournal
	if n := len(s.events); n > 0 {
		alarms = s.events[n-1].Position
	}
	if n := len(s.told); n > 0 {
		commands = s.told[n-1].Position
	}
	return alarms, commands, s.failing("JournalEnds")
}

// Cached keeps every answer for ever once kept is made.
func (s *fakeSite) Cached(_ context.Context, a scripts.Answer, build func() ([]byte, error)) ([]byte, error) {
	s.mu.Lock()
	body, ok := s.kept[a]
	s.mu.Unlock()
	if ok {
		return slices.Clone(body), nil
	}
	body, err := build()
	s.mu.Lock()
	defer s.mu.Unlock()
	if err == nil && s.kept != nil && a != (scripts.Answer{}) {
		s.kept[a] = slices.Clone(body)
	}
	return body, err
}

func (s *fakeSite) Control(ctx context.Context, c model.Command) (model.CommandResult, error) {
	var end model.CommandState
	var err error
	s.set(func() { end, err = s.end, s.failing("Control") })
	if err != nil {
		return model.CommandResult{}, err
	}
	if end == "wait" {
		<-ctx.Done()
		return s.record(c, model.CommandExecuting), ctx.Err()
	}
	return s.record(c, end), nil
}

func (s *fakeSite) Await(ctx context.Context, r model.CommandResult, _ time.Duration) (model.CommandResult, error) {
	var err error
	s.set(func() { r.State, err = s.end, s.failing("Control") })
	switch {
	case err != nil:
		return model.CommandResult{}, err
	case r.State == "wait":
		<-ctx.Done()
		r.State = model.CommandExecuting
		return r, ctx.Err()
	case r.State == "":
		r.State = model.CommandVerified
	}
	s.set(func() { s.commands[r.ID] = r })
	return r, nil
}

func (s *fakeSite) Submit(_ context.Context, c model.Command) (model.CommandResult, error) {
	var end model.CommandState
	var tell func(model.CommandResult)
	var err error
	s.set(func() { end, tell, err = s.end, s.onSubmit, s.failing("Submit") })
	if err != nil {
		return model.CommandResult{}, err
	}
	if end != model.CommandRejected {
		end = model.CommandQueued
	}
	if c.Control == s.reject {
		end = model.CommandRejected
	}
	res := s.record(c, end)
	if tell != nil {
		tell(res)
	}
	return res, nil
}

func (s *fakeSite) record(c model.Command, state model.CommandState) model.CommandResult {
	s.mu.Lock()
	defer s.mu.Unlock()
	c.ID = ""
	s.last = c
	s.order = append(s.order, c.Model+":"+c.Control)
	if state == "" {
		state = model.CommandVerified
	}
	res := model.CommandResult{
		ID: fmt.Sprintf("c%d", len(s.commands)+1), Model: c.Model, Control: c.Control, Value: c.Value, State: state,
		Origin: c.Origin, User: c.User, Created: s.now, Updated: s.now, Deadline: s.now.Add(c.Timeout),
	}
	if !state.OK() {
		res.Reason, res.Detail = "why", "because"
	}
	s.commands[res.ID] = res
	return res
}

func (s *fakeSite) Command(_ context.Context, id string) (model.CommandResult, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	res, ok := s.commands[id]
	if !ok {
		return res, fmt.Errorf("command %s: %w", id, scripts.ErrNotFound)
	}
	return res, s.failing("Command")
}

func (s *fakeSite) Cancel(_ context.Context, id, by string) (model.CommandResult, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	res, ok := s.commands[id]
	if err := s.failing("Cancel"); err != nil {
		return res, err
	}
	switch {
	case !ok:
		return res, fmt.Errorf("command %s: %w", id, scripts.ErrNotFound)
	case res.State.Final():
		return res, fmt.Errorf("command %s: %w", id, scripts.ErrConflict)
	}
	res.State, res.User = model.CommandCancelled, by
	s.commands[id] = res
	return res, nil
}

func (s *fakeSite) Alarms(context.Context) ([]model.Alarm, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.alarms), s.failing("Alarms")
}

func (s *fakeSite) AlarmJournal(_ context.Context, after string, limit int) ([]model.AlarmEvent, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var events []model.AlarmEvent
	for _, ev := range s.events {
		if newer(ev.Position, after) && len(events) < limit {
			events = append(events, ev)
		}
	}
	return events, s.failing("AlarmJournal")
}

func (s *fakeSite) Audit(_ context.Context, entries ...model.AuditEntry) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.failing("Audit"); err != nil {
		return err
	}
	for _, e := range entries {
		e.Position = fmt.Sprintf("%d-0", len(s.audit)+1)
		s.audit = append(s.audit, e)
	}
	return nil
}

func (s *fakeSite) AuditJournal(_ context.Context, after string, limit int) ([]model.AuditEntry, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var entries []model.AuditEntry
	for _, e := range s.audit {
		if e.Position > after && len(entries) < limit {
			entries = append(entries, e)
		}
	}
	return entries, s.failing("AuditJournal")
}

// testClock stands still until it is moved.
type testClock struct {
	mu      sync.Mutex
	now     time.Time
	waiting []waiter
	asked   chan time.Duration // what After was called with
}

type waiter struct {
	at time.Time
	c  chan time.Time
}

func newTestClock() *testClock { return &testClock{now: start, asked: make(chan time.Duration, 1000)} }

func (c *testClock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *testClock) After(d time.Duration) <-chan time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	w := waiter{c.now.Add(d), make(chan time.Time, 1)}
	c.waiting = append(c.waiting, w)
	select {
	case c.asked <- d:
	default:
	}
	return w.c
}

func (c *testClock) move(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
	c.waiting = slices.DeleteFunc(c.waiting, func(w waiter) bool {
		due := !w.at.After(c.now)
		if due {
			w.c <- c.now
		}
		return due
	})
}

// run moves the clock on and on, for waits of unknown length, until it is stopped.
func (c *testClock) run() (stop func()) {
	over, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-over:
				return
			case <-time.After(time.Millisecond):
				c.move(100 * time.Millisecond)
			}
		}
	}()
	return func() {
		close(over)
		<-done
	}
}

// shift moves all times, so that they suit the real clock.
func (s *fakeSite) shift(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.now = s.now.Add(d)
	n := 0
	for _, values := range s.values {
		for name, v := range values {
			if !v.Time.IsZero() {
				n++
				v.Time = v.Time.Add(d - time.Duration(n%7)*time.Second)
				values[name] = v
			}
		}
	}
	for i := range s.channels {
		c := &s.channels[i]
		c.Since, c.LastScan, c.LastErrorAt = c.Since.Add(d), c.LastScan.Add(d), c.LastErrorAt.Add(d)
	}
	for i := range s.alarms {
		s.alarms[i].Raised = s.alarms[i].Raised.Add(d)
		if !s.alarms[i].ShelvedUntil.IsZero() {
			s.alarms[i].ShelvedUntil = s.alarms[i].ShelvedUntil.Add(d)
		}
	}
	for i := range s.events {
		s.events[i].Time = s.events[i].Time.Add(d)
	}
}
