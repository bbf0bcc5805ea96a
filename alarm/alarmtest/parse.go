package alarmtest

import (
	"cmp"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/voltageems/voltage/model"
)

// Bounds of a file. They keep a slip, such as one zero too many, from taking hours.
const (
	maxFile   = 1 << 20        // bytes
	maxEvents = 100_000        // values and actions of a test
	maxTime   = 366 * day      // of a test, by its own clock
	maxErrors = 20             // faults that are told of a file
	day       = 24 * time.Hour //
	plainChan = "sim"          // the channel of points that no line gives another
)

// File is a file of tests.
type File struct {
	name   string
	config string // path of the site's configuration, as written; "" without one
	tests  []*test
}

// Tests returns the names of the tests, in order.
func (f *File) Tests() []string {
	names := make([]string, len(f.tests))
	for i, t := range f.tests {
		names[i] = t.name
	}
	return names
}

// test is one test, which begins with an empty site.
type test struct {
	name     string
	line     int
	channels map[model.Ref]string // what "points" says
	points   map[model.Ref]bool   // every point of a model that is mentioned
	events   []event              // in the order of the file
	reached  time.Duration        // the latest time that a line names
	checked  time.Duration        // the time of the last check
}

// phase orders what happens at the same time.
type phase int

const (
	phaseSetup phase = iota // definitions before the first value
	phaseValue              // samples
	phaseAct                // what is done, in the order of the file
	phaseTick               // the tick, where one is due
	phaseCheck              // what is expected
)

// event is something that happens, or is checked, at a time of the test.
type event struct {
	at    time.Duration
	phase phase
	line  int
	what  any // sampleEvent, ruleEvent, dropEvent, channelEvent, deskEvent, refreshEvent or *check
}

type sampleEvent struct {
	point   model.Ref
	value   float64
	quality model.Quality
	device  time.Duration // its time, as far from that of the event
	timed   bool
}

type ruleEvent struct {
	rule model.AlarmRule
	text string // another program's, where it is not empty
}

type dropEvent struct{ rule string }

type channelEvent struct{ id, state string }

type refreshEvent struct{}

type deskEvent struct {
	op, alarm, by, comment string
	until                  time.Duration
	refused                bool
}

// Parse reads a file of tests. name is for the messages. The error has every fault,
// each with file and line.
func Parse(name string, text []byte) (*File, error) {
	if len(text) > maxFile {
		return nil, fmt.Errorf("%w: %s: %d bytes: want at most %d", model.ErrInvalid, name, len(text), maxFile)
	}
	p := &parser{file: &File{name: name}}
	for i, line := range strings.Split(string(text), "\n") {
		p.line = i + 1
		if err := p.parse(strings.TrimRight(line, "\r")); err != nil {
			p.fail(p.line, err)
		}
	}
	if p.file.tests == nil && p.errs == nil {
		p.fail(p.line, errors.New(`there is no test: want a line such as test "it is too hot"`))
	}
	for _, t := range p.file.tests {
		if !slices.ContainsFunc(t.events, func(e event) bool { return e.phase == phaseCheck }) {
			p.fail(t.line, fmt.Errorf("test %q expects nothing: want eval, journal, notified or problems", t.name))
		}
	}
	if p.errs != nil {
		return nil, fmt.Errorf("%w: %w", model.ErrInvalid, errors.Join(p.errs...))
	}
	return p.file, nil
}

type parser struct {
	file  *File
	test  *test
	check *check // that the indented lines belong to
	line  int
	errs  []error
}

func (p *parser) fail(line int, err error) {
	if len(p.errs) < maxErrors {
		p.errs = append(p.errs, fmt.Errorf("%s:%d: %w", p.file.name, line, err))
	}
}

func (p *parser) parse(line string) error {
	words, err := split(line)
	if err != nil || len(words) == 0 {
		return err
	}
	if line[0] == ' ' || line[0] == '\t' {
		if p.check == nil {
			return errors.New("an indented line belongs to eval, journal, notified or problems")
		}
		return p.check.expect(words)
	}
	p.check = nil
	statement, args := words[0].text, words[1:]
	switch {
	case statement == "config":
		if len(args) != 1 || p.test != nil || p.file.config != "" {
			return errors.New("want config FILE once, before the first test")
		}
		p.file.config = args[0].text
		return nil
	case statement == "test":
		if len(args) != 1 || args[0].text == "" {
			return errors.New(`want test "NAME"`)
		}
		if slices.Contains(p.file.Tests(), args[0].text) {
			return fmt.Errorf("test %q is there twice", args[0].text)
		}
		p.test = &test{name: args[0].text, line: p.line, channels: map[model.Ref]string{}, points: map[model.Ref]bool{}}
		p.file.tests = append(p.file.tests, p.test)
		return nil
	case p.test == nil:
		return fmt.Errorf(`%q stands before the first test: want test "NAME"`, statement)
	}
	switch statement {
	case "points":
		return p.pointsLine(args)
	case "rule", "channel":
		return p.action(0, phaseSetup, words)
	case "load":
		return p.load(args)
	case "at":
		if len(args) < 2 {
			return errors.New("want at TIME ACTION")
		}
		at, err := p.time(args[0].text)
		if err != nil {
			return err
		}
		return p.action(at, phaseAct, args[1:])
	case "eval", "journal", "notified", "problems":
		return p.checkLine(statement, args)
	}
	return fmt.Errorf("%q: want test, points, rule, channel, load, at, eval, journal, notified or problems", statement)
}

// add puts an event where it is not before what was checked already.
func (p *parser) add(at time.Duration, ph phase, what any) error {
	t := p.test
	if at < t.checked {
		return fmt.Errorf("%s: a line before looked at %s already", at, t.checked)
	}
	if len(t.events) >= maxEvents {
		return fmt.Errorf("more than %d values and actions", maxEvents)
	}
	t.events = append(t.events, event{at: at, phase: ph, line: p.line, what: what})
	t.reached = max(t.reached, at)
	return nil
}

func (p *parser) time(text string) (time.Duration, error) {
	d, err := duration(text)
	if err == nil && (d < 0 || d > maxTime) {
		err = fmt.Errorf("%s: want 0s to %s", text, maxTime)
	}
	return d, err
}

// duration reads a time of the test, in whole milliseconds.
func duration(text string) (time.Duration, error) {
	d, err := time.ParseDuration(text)
	if err != nil || d%time.Millisecond != 0 {
		return 0, fmt.Errorf("%.40q is no time: want such as 500ms, 40s or 1h30m", text)
	}
	return d, nil
}

func (p *parser) point(text string) (model.Ref, error) {
	ref, err := model.ParseRef(text)
	if err != nil {
		return ref, fmt.Errorf("%.80q: want MODEL:POINT", text)
	}
	p.test.points[ref] = true
	return ref, nil
}

func (p *parser) pointsLine(args []word) error {
	if len(args) < 2 || !model.ValidID(args[0].text) {
		return errors.New("want points CHANNEL MODEL:POINT …")
	}
	for _, a := range args[1:] {
		ref, err := p.point(a.text)
		if err != nil {
			return err
		}
		if before, ok := p.test.channels[ref]; ok {
			return fmt.Errorf("%s comes from channel %s already", ref, before)
		}
		p.test.channels[ref] = args[0].text
	}
	return nil
}

func (p *parser) load(args []word) error {
	const want = "want load STEP [from TIME] MODEL:POINT VALUE …"
	if len(args) < 3 {
		return errors.New(want)
	}
	step, err := p.time(args[0].text)
	if err != nil {
		return err
	}
	if step == 0 {
		return errors.New("load 0s: want a step")
	}
	at := time.Duration(0)
	if args = args[1:]; args[0].text == "from" {
		if at, err = p.time(args[1].text); err != nil {
			return err
		}
		args = args[2:]
	}
	if len(args) < 2 {
		return errors.New(want)
	}
	ref, err := p.point(args[0].text)
	if err != nil {
		return err
	}
	if at < p.test.checked {
		return fmt.Errorf("load from %s: a line before looked at %s already", at, p.test.checked)
	}
	for _, a := range args[1:] {
		samples, err := parseValues(a.text)
		if err != nil {
			return err
		}
		for _, s := range samples {
			if at > maxTime {
				return fmt.Errorf("load: goes beyond %s", maxTime)
			}
			if s != nil {
				s.point = ref
				if err := p.add(at, phaseValue, *s); err != nil {
					return err
				}
			}
			p.test.reached = max(p.test.reached, at)
			at += step
		}
	}
	return nil
}

var (
	repeated = regexp.MustCompile(`^(.+)x([0-9]{1,5})$`)
	ramp     = regexp.MustCompile(`^([+-]?[0-9.]+)([+-][0-9.]+)$`)
)

// parseValues reads a value of a load, which may stand for several; nil is no sample.
func parseValues(text string) ([]*sampleEvent, error) {
	bad := func() ([]*sampleEvent, error) {
		return nil, fmt.Errorf("%.40q is no value: want such as 50, 60x3, 0+10x5, _, !stale, 70!uncertain or 70@-5s", text)
	}
	one, n := text, 1
	if m := repeated.FindStringSubmatch(text); m != nil {
		one = m[1]
		n, _ = strconv.Atoi(m[2]) // at most five digits
	}
	if n == 0 {
		return bad()
	}
	if one == "_" {
		return make([]*sampleEvent, n), nil
	}
	var s sampleEvent
	one, device, timed := strings.Cut(one, "@")
	if timed {
		d, err := duration(device)
		if err != nil {
			return bad()
		}
		s.device, s.timed = d, true
	}
	one, quality, given := strings.Cut(one, "!")
	if given {
		q, err := model.ParseQuality(quality)
		if err != nil || quality == "" || q.Usable() == (one == "") {
			return bad()
		}
		s.quality = q
	}
	step := 0.0
	if one != "" {
		if m := ramp.FindStringSubmatch(one); m != nil && n > 1 {
			d, err := strconv.ParseFloat(m[2], 64)
			if err != nil {
				return bad()
			}
			one, step = m[1], d
		}
		v, err := strconv.ParseFloat(one, 64)
		if err != nil || !model.Storable(v) {
			return bad()
		}
		s.value = v
	} else if !given {
		return bad()
	}
	list := make([]*sampleEvent, n)
	for i := range list {
		item := s
		item.value += float64(i) * step
		list[i] = &item
	}
	return list, nil
}

// action reads what is done: at a time, or before the first value.
func (p *parser) action(at time.Duration, ph phase, words []word) error {
	verb, args := words[0].text, words[1:]
	switch verb {
	case "rule":
		e, err := p.rule(args)
		if err != nil {
			return err
		}
		return p.add(at, ph, e)
	case "channel":
		if len(args) != 2 || !model.ValidID(args[0].text) || !slices.Contains(channelStates, args[1].text) {
			return fmt.Errorf("want channel CHANNEL STATE, which is one of %s", strings.Join(channelStates, ", "))
		}
		return p.add(at, ph, channelEvent{args[0].text, args[1].text})
	case "drop":
		if len(args) != 1 {
			return errors.New("want drop RULE")
		}
		return p.add(at, ph, dropEvent{args[0].text})
	case "value":
		if len(args) != 2 {
			return errors.New("want value MODEL:POINT VALUE")
		}
		ref, err := p.point(args[0].text)
		if err != nil {
			return err
		}
		samples, err := parseValues(args[1].text)
		if err != nil {
			return err
		}
		if len(samples) != 1 || samples[0] == nil {
			return fmt.Errorf("%s: want one value", args[1].text)
		}
		samples[0].point = ref
		return p.add(at, ph, *samples[0])
	case "refresh":
		if len(args) != 0 {
			return errors.New("want refresh alone")
		}
		return p.add(at, ph, refreshEvent{})
	}
	if slices.Contains(deskOps, verb) {
		e, err := parseDesk(verb, args)
		if err != nil {
			return err
		}
		return p.add(at, ph, e)
	}
	return fmt.Errorf("%q: want rule, drop, channel, value, refresh, %s", verb, strings.Join(deskOps, ", "))
}

var (
	channelStates = []string{"online", "connecting", "offline", "stopped", "lost"}
	deskOps       = []string{"ack", "close", "reset", "shelve", "unshelve", "out_of_service", "in_service"}
)

// parseDesk reads RULE [for TIME] [by WHO] ["COMMENT"] [refused].
func parseDesk(op string, args []word) (deskEvent, error) {
	e := deskEvent{op: op, by: "operator"}
	if len(args) == 0 {
		return e, fmt.Errorf("want %s RULE [by WHO] [\"COMMENT\"]", op)
	}
	e.alarm, args = args[0].text, args[1:]
	for len(args) > 0 {
		a := args[0]
		args = args[1:]
		switch {
		case a.quoted:
			e.comment = a.text
		case a.text == "refused":
			e.refused = true
		case (a.text == "by" || a.text == "for") && len(args) == 0:
			return e, fmt.Errorf("%s: nothing follows %s", op, a.text)
		case a.text == "by":
			e.by, args = args[0].text, args[1:]
		case a.text == "for" && op == "shelve":
			d, err := duration(args[0].text)
			if err != nil {
				return e, err
			}
			e.until, args = d, args[1:]
		default:
			return e, fmt.Errorf("%s: %q: want by WHO, \"COMMENT\" or refused", op, a.text)
		}
	}
	if op == "shelve" && e.until == 0 {
		return e, errors.New("shelve: for how long? want for TIME")
	}
	return e, nil
}

// checkLine reads "eval TIME", "journal [TIME]" and the like.
func (p *parser) checkLine(kind string, args []word) error {
	t := p.test
	at := t.reached
	if len(args) > 1 || kind == "eval" && len(args) == 0 {
		return fmt.Errorf("want %s TIME, and what is expected in indented lines", kind)
	}
	if len(args) == 1 {
		var err error
		if at, err = p.time(args[0].text); err != nil {
			return err
		}
	}
	c := &check{kind: kind, line: p.line}
	if err := p.add(at, phaseCheck, c); err != nil {
		return err
	}
	t.checked, p.check = at, c
	return nil
}

// ordered returns the events in the order in which they happen.
func (t *test) ordered() []event {
	list := slices.Clone(t.events)
	slices.SortStableFunc(list, func(a, b event) int { return cmp.Or(cmp.Compare(a.at, b.at), cmp.Compare(a.phase, b.phase)) })
	return list
}

// word is a part of a line.
type word struct {
	text   string
	quoted bool
}

// split takes a line apart: words, and texts in double quotes, up to a #.
func split(line string) ([]word, error) {
	var list []word
	for rest := strings.TrimLeft(line, " \t"); rest != "" && rest[0] != '#'; rest = strings.TrimLeft(rest, " \t") {
		if rest[0] == '"' {
			quoted, err := strconv.QuotedPrefix(rest)
			if err != nil {
				return nil, fmt.Errorf("%.40s: the quotation mark at the end is missing", rest)
			}
			text, err := strconv.Unquote(quoted)
			if err != nil {
				return nil, fmt.Errorf("%.40s: %w", quoted, err)
			}
			list = append(list, word{text: text, quoted: true})
			rest = rest[len(quoted):]
			continue
		}
		end := strings.IndexAny(rest, " \t")
		if end < 0 {
			end = len(rest)
		}
		list = append(list, word{text: rest[:end]})
		rest = rest[end:]
		if len(list) > 2 && list[len(list)-1].text == "json" {
			if rest = strings.TrimSpace(rest); rest != "" { // what follows is not taken apart
				list = append(list, word{text: rest, quoted: true})
			}
			break
		}
	}
	return list, nil
}
