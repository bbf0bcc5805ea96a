package alarmtest

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/voltageems/voltage/model"
)

// check is what is expected at a time.
type check struct {
	kind string // eval, journal, notified or problems
	line int
	want []fact
}

// fact is one line of what is expected, or of what is. The head is in order, such
// as rule, status and value; the keys follow it.
type fact struct {
	head []string
	keys map[string]string
	more map[string]string // of what is: what counts only where it is expected
}

// The keys of the lines, in the order in which they are shown. Those that always
// count are 0 or nothing where they are not expected.
var keyOrder = []string{"count", "status", "suppression", "quality", "chattering", "until", "reason", "suppressed_by",
	"severity", "message", "threshold", "high", "operator", "by", "comment", "acknowledged_by",
	"raised", "cleared", "acknowledged", "device"}

// keysOf are those of each kind.
var keysOf = map[string][]string{
	"eval":     {"count", "suppression", "quality", "chattering", "until", "reason", "suppressed_by", "severity", "message", "threshold", "high", "operator", "comment", "acknowledged_by", "raised", "cleared", "acknowledged", "device"},
	"journal":  {"status", "suppression", "severity", "message", "threshold", "by", "comment", "device"},
	"notified": {"status", "severity", "message", "threshold", "operator", "by"},
}

// times are keys whose values are times of the test, numbers those with numbers.
var (
	timeKeys   = []string{"until", "raised", "cleared", "acknowledged", "device"}
	numberKeys = []string{"count", "threshold", "high"}
)

// expect reads an indented line.
func (c *check) expect(words []word) error {
	if len(words) == 1 && words[0].text == "none" && !words[0].quoted {
		return nil
	}
	f := fact{keys: map[string]string{}}
	if c.kind == "problems" {
		var parts []string
		for _, w := range words {
			parts = append(parts, w.text)
		}
		f.head = []string{strings.Join(parts, " ")}
		c.want = append(c.want, f)
		return nil
	}
	head, err := c.head(&words)
	if err != nil {
		return err
	}
	f.head = head
	for len(words) > 0 {
		key, value := words[0].text, ""
		words = words[1:]
		switch {
		case slices.Contains(model.Suppressions(), model.Suppression(key)):
			key, value = "suppression", key
		case key == "chattering":
			value = "yes"
		case !slices.Contains(keysOf[c.kind], key):
			return fmt.Errorf("%q: want one of %s", key, strings.Join(keysOf[c.kind], ", "))
		case len(words) == 0:
			return fmt.Errorf("nothing follows %s", key)
		default:
			value, words = words[0].text, words[1:]
		}
		if !slices.Contains(keysOf[c.kind], key) {
			return fmt.Errorf("%q does not belong to %s", key, c.kind)
		}
		if slices.Contains(timeKeys, key) && value != "never" {
			d, err := duration(value)
			if err != nil {
				return err
			}
			value = d.String()
		}
		if slices.Contains(numberKeys, key) {
			v, err := strconv.ParseFloat(value, 64)
			if err != nil {
				return fmt.Errorf("%s: %.40q is no number", key, value)
			}
			value = number(v)
		}
		if _, ok := f.keys[key]; ok {
			return fmt.Errorf("%s is there twice", key)
		}
		f.keys[key] = value
	}
	for key, none := range map[string]string{"count": "1", "suppression": "", "quality": ""} {
		if value, ok := f.keys[key]; ok && value == none { // the same as nothing
			delete(f.keys, key)
		}
	}
	c.want = append(c.want, f)
	return nil
}

// head reads what a line begins with: RULE STATUS VALUE, or TIME TRANSITION RULE
// [VALUE]. A value is left out where there is none, as in the journal of a rule
// that is shelved without an alarm.
func (c *check) head(words *[]word) ([]string, error) {
	w := *words
	if c.kind == "eval" {
		if len(w) < 3 || !slices.Contains(model.AlarmStatuses(), model.AlarmStatus(w[1].text)) {
			return nil, errors.New("want RULE STATUS VALUE …, with a status such as active; or none")
		}
		v, err := strconv.ParseFloat(w[2].text, 64)
		if err != nil {
			return nil, fmt.Errorf("value: %.40q is no number", w[2].text)
		}
		*words = w[3:]
		return []string{w[0].text, w[1].text, number(v)}, nil
	}
	if len(w) < 3 {
		return nil, errors.New("want TIME TRANSITION RULE [VALUE] …; or none")
	}
	d, err := duration(w[0].text)
	if err != nil {
		return nil, err
	}
	if !slices.Contains(transitions, model.AlarmTransition(w[1].text)) {
		return nil, fmt.Errorf("%q is no transition", w[1].text)
	}
	head := []string{d.String(), w[1].text, w[2].text}
	*words = w[3:]
	if len(w) > 3 {
		if v, err := strconv.ParseFloat(w[3].text, 64); err == nil {
			head, *words = append(head, number(v)), w[4:]
		}
	}
	return head, nil
}

var transitions = []model.AlarmTransition{
	model.TransitionRaised, model.TransitionReraised, model.TransitionCleared, model.TransitionLatched, model.TransitionAcknowledged,
	model.TransitionReset, model.TransitionClosed, model.TransitionShelved, model.TransitionUnshelved, model.TransitionSuppressed,
	model.TransitionUnsuppressed, model.TransitionOutOfService, model.TransitionInService, model.TransitionChattering,
}

func number(v float64) string { return strconv.FormatFloat(v, 'f', -1, 64) }

// text is the line of what is, with those of its other keys that are asked for.
func (f fact) text(wanted map[string]string) string {
	parts := slices.Clone(f.head)
	for _, key := range keyOrder {
		value, ok := f.keys[key]
		if !ok && has(wanted, key) {
			value, ok = f.more[key]
		}
		switch {
		case !ok:
		case key == "suppression":
			parts = append(parts, value)
		case key == "chattering":
			parts = append(parts, key)
		default:
			if value == "" || strings.ContainsAny(value, " \"#") {
				value = strconv.Quote(value)
			}
			parts = append(parts, key, value)
		}
	}
	return strings.Join(parts, " ")
}

func has(m map[string]string, key string) bool { _, ok := m[key]; return ok }

// compare returns what differs between what is expected and what is, as the lines
// of a diff; "" where nothing does.
func compare(kind string, want, got []fact) string {
	same := func(w, g fact) bool {
		if kind == "problems" {
			return strings.Contains(g.head[0], w.head[0])
		}
		return w.text(w.keys) == g.text(w.keys)
	}
	// the longest common subsequence
	longest := make([][]int, len(want)+1)
	for i := range longest {
		longest[i] = make([]int, len(got)+1)
	}
	for i := len(want) - 1; i >= 0; i-- {
		for j := len(got) - 1; j >= 0; j-- {
			if longest[i][j] = max(longest[i+1][j], longest[i][j+1]); same(want[i], got[j]) {
				longest[i][j] = longest[i+1][j+1] + 1
			}
		}
	}
	if longest[0][0] == len(want) && len(want) == len(got) {
		return ""
	}
	var b strings.Builder
	asked := map[string]string{} // by the line expected last, for what is there instead
	for i, j := 0, 0; i < len(want) || j < len(got); {
		switch {
		case i < len(want) && j < len(got) && same(want[i], got[j]):
			fmt.Fprintf(&b, "      %s\n", got[j].text(want[i].keys))
			i, j = i+1, j+1
		case i < len(want) && (j == len(got) || longest[i+1][j] >= longest[i][j+1]):
			asked = want[i].keys
			fmt.Fprintf(&b, "    - %s\n", want[i].text(asked))
			i++
		default:
			fmt.Fprintf(&b, "    + %s\n", got[j].text(asked))
			j++
		}
	}
	return strings.TrimRight(b.String(), "\n")
}
