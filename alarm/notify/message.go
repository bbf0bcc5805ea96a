package notify

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/voltageems/voltage/model"
)

// The types of messages. Other programs may write others.
const (
	TypeAlarm        = "alarm"        // a transition of an alarm
	TypeNotification = "notification" // the action of a rule
	TypeSummary      = "summary"      // several messages together, above a target's rate
	TypeTest         = "test"         // a test of a target
)

// Bounds of a message in the queue, in bytes.
const (
	maxMessage = 64 << 10
	maxText    = 4 << 10 // of one field
	maxID      = 200     // of the field id
)

// maxTime is the last time that JSON can tell in every zone, in Unix milliseconds.
const maxTime = 253402200000_000

// Language is that of the texts for people.
type Language string

// The languages that there are texts in.
const (
	English Language = "en"
	Chinese Language = "zh"
)

func (l Language) valid() bool { return l == English || l == Chinese }

// transitions are those that a route may name.
var transitions = []model.AlarmTransition{
	model.TransitionRaised, model.TransitionReraised, model.TransitionCleared, model.TransitionLatched, model.TransitionAcknowledged,
	model.TransitionReset, model.TransitionClosed, model.TransitionShelved, model.TransitionUnshelved, model.TransitionSuppressed,
	model.TransitionUnsuppressed, model.TransitionOutOfService, model.TransitionInService, model.TransitionChattering,
}

// Message is what a target is told, as Senders get it, templates see it and
// webhooks, MQTT and programs receive it in JSON. Fields that do not apply are
// empty.
type Message struct {
	// ID is the same when the message is delivered again.
	ID   string `json:"id"`
	Type string `json:"type"`
	Site string `json:"site,omitempty"`
	// Transition is what happened to the alarm, Status what it is since.
	Transition model.AlarmTransition `json:"transition,omitempty"`
	Status     model.AlarmStatus     `json:"status,omitempty"`
	Alarm      string                `json:"alarm_id,omitempty"`
	Model      string                `json:"model_id,omitempty"`
	Point      string                `json:"point_name,omitempty"`
	Rule       string                `json:"rule_id,omitempty"`
	// Severity is low, medium, high, critical, or what another program has written;
	// that ranks as medium.
	Severity  model.Severity `json:"severity"`
	Value     json.Number    `json:"value,omitempty"`
	Operator  model.Operator `json:"operator,omitempty"`
	Threshold json.Number    `json:"threshold,omitempty"`
	Message   string         `json:"message,omitempty"`
	By        string         `json:"by,omitempty"`
	// Time is when it happened.
	Time time.Time `json:"time"`
	// Escalation is after what time without acknowledgement this goes to further
	// people, such as "10m0s".
	Escalation string `json:"escalation,omitempty"`
	// Count and Messages are of a summary: how many messages it stands for, and the
	// most urgent of them.
	Count    int       `json:"count,omitempty"`
	Messages []Message `json:"messages,omitempty"`
	// Language, Subject and Text are made for the target.
	Language Language `json:"language,omitempty"`
	Subject  string   `json:"subject,omitempty"`
	Text     string   `json:"text,omitempty"`
}

// attention reports whether the message says that an alarm wants attention.
func (m Message) attention() bool {
	switch m.Transition {
	case "", model.TransitionRaised, model.TransitionReraised:
		return true
	case model.TransitionUnshelved, model.TransitionUnsuppressed, model.TransitionInService:
		return m.Status == "" || m.Status == model.AlarmActive
	}
	return false
}

// rank orders severities, the most urgent last.
func rank(s model.Severity) int {
	if i := slices.Index(model.Severities(), s); i >= 0 {
		return i
	}
	return 1
}

// critical is the rank that nothing holds up.
const critical = 3

// parseMessage reads a message of the queue. Numbers may be texts, as the scripts
// write them, and unknown fields are left out. A message without an id, or with
// one that is no plain text of up to 200 bytes, gets one that is the same for the same text.
func parseMessage(text string) (Message, error) {
	if len(text) > maxMessage {
		return Message{}, fmt.Errorf("%d bytes: at most %d", len(text), maxMessage)
	}
	var fields map[string]any
	d := json.NewDecoder(strings.NewReader(text))
	d.UseNumber()
	if err := d.Decode(&fields); err != nil {
		return Message{}, fmt.Errorf("not a JSON object: %w", err)
	}
	if fields == nil {
		return Message{}, errors.New("not a JSON object: null")
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return Message{}, errors.New("there is something after the JSON object")
	}
	var fault error
	get := func(name string) string {
		var s string
		switch v := fields[name].(type) {
		case nil:
		case string:
			s = v
		case json.Number:
			s = v.String()
		case bool:
			s = strconv.FormatBool(v)
		default:
			fault = fmt.Errorf("field %s: want a text or a number", name)
		}
		if len(s) > maxText {
			fault = fmt.Errorf("field %s: %d bytes: at most %d", name, len(s), maxText)
		}
		return s
	}
	number := func(name string) json.Number {
		s := get(name)
		f, err := strconv.ParseFloat(s, 64)
		switch {
		case s == "":
			return ""
		case err != nil || math.IsNaN(f) || math.IsInf(f, 0):
			fault = fmt.Errorf("field %s: %.40q is not a number", name, s)
			return ""
		case !json.Valid([]byte(s)): // 1. or +1 or 0x10
			s = strconv.FormatFloat(f, 'g', -1, 64)
		}
		return json.Number(s)
	}
	m := Message{
		ID: get("id"), Type: get("type"), Transition: model.AlarmTransition(get("transition")), Status: model.AlarmStatus(get("status")),
		Alarm: get("alarm_id"), Model: get("model_id"), Point: get("point_name"), Rule: get("rule_id"), Severity: model.Severity(get("severity")),
		Value: number("value"), Operator: model.Operator(get("operator")), Threshold: number("threshold"), Message: get("message"), By: get("by"),
	}
	if at := get("timestamp"); at != "" {
		ms, err := strconv.ParseInt(at, 10, 64)
		if err != nil || ms < 0 || ms > maxTime {
			fault = fmt.Errorf("field timestamp: %.40q: want Unix milliseconds", at)
		} else {
			m.Time = time.UnixMilli(ms)
		}
	}
	switch {
	case fault != nil:
	case m.Type == "":
		fault = errors.New("field type: missing")
	case m.Type == TypeAlarm && m.Alarm == "":
		fault = errors.New("field alarm_id: missing")
	case m.Type == TypeAlarm && m.Transition != "" && !slices.Contains(transitions, m.Transition):
		fault = fmt.Errorf("field transition: %.40q is unknown", m.Transition)
	case m.Type != TypeAlarm && m.Message == "":
		fault = errors.New("field message: missing")
	}
	if m.Severity == "" {
		m.Severity = model.Medium
	}
	if m.Type == TypeAlarm && m.Transition == "" { // as scripts wrote it that told only of these
		m.Transition = model.TransitionRaised
	}
	if m.ID == "" || !model.PlainText(m.ID, maxID) { // it goes into headers
		sum := sha256.Sum256([]byte(text))
		m.ID = "x" + hex.EncodeToString(sum[:8])
	}
	return m, fault
}

// rawMessage returns a text of the queue as JSON: itself, or a string of it, cut
// where it is long.
func rawMessage(text string) json.RawMessage {
	var compact bytes.Buffer
	if len(text) <= maxMessage && json.Compact(&compact, []byte(text)) == nil {
		return compact.Bytes()
	}
	if len(text) > maxText {
		text = text[:maxText] + " …"
	}
	quoted, err := json.Marshal(strings.ToValidUTF8(text, string(utf8.RuneError)))
	if err != nil {
		return json.RawMessage(`""`)
	}
	return quoted
}

// queueText is the reverse of rawMessage: what stood in the queue.
func queueText(raw json.RawMessage) string {
	var text string
	if json.Unmarshal(raw, &text) == nil {
		return text
	}
	return string(raw)
}

// Samples are messages of every form, against which templates are tried.
func Samples() []Message {
	at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	a := Message{ID: "7-1", Type: TypeAlarm, Site: "plant-a", Transition: model.TransitionRaised, Status: model.AlarmActive, Alarm: "7", Model: "bms1",
		Point: "temperature_max", Rule: "hot", Severity: model.Critical, Value: "61.2", Operator: model.Above, Threshold: "60", Message: "Battery is too hot", Time: at,
		Language: English}
	list := []Message{a}
	for _, t := range transitions[1:] {
		b := a
		b.Transition, b.By, b.Status = t, "anna", model.AlarmAcknowledged
		list = append(list, b)
	}
	late := a
	late.ID, late.Escalation = "7-1-escalation", "10m0s"
	n := Message{ID: "x1", Type: TypeNotification, Site: "plant-a", Rule: "peak", Severity: model.Medium, Message: "Peak shaving began", Time: at, Language: English}
	sum := Message{ID: "7-1-summary", Type: TypeSummary, Site: "plant-a", Severity: model.Critical, Count: 25, Messages: []Message{a, n}, Time: at, Language: English}
	test := Message{ID: "test-1", Type: TypeTest, Severity: model.Low, Message: "This is a test.", Time: at, Language: English}
	list = append(list, late, n, sum, test)
	for _, m := range slices.Clone(list) {
		m.Language = Chinese
		list = append(list, m)
	}
	return list
}
