package model

import "time"

// AlarmStatus is where an alarm stands in its life.
type AlarmStatus string

// The statuses, in the terms of ISA-18.2. Closed is the end; all others are open.
const (
	AlarmActive       AlarmStatus = "active"       // in alarm, not acknowledged
	AlarmAcknowledged AlarmStatus = "acknowledged" // in alarm, acknowledged
	AlarmCleared      AlarmStatus = "cleared"      // returned to normal, not acknowledged
	AlarmLatched      AlarmStatus = "latched"      // returned to normal, held until somebody resets it
	AlarmClosed       AlarmStatus = "closed"       // over
)

// AlarmStatuses lists every status.
func AlarmStatuses() []AlarmStatus {
	return []AlarmStatus{AlarmActive, AlarmAcknowledged, AlarmCleared, AlarmLatched, AlarmClosed}
}

// InAlarm reports whether the condition counts as true.
func (s AlarmStatus) InAlarm() bool { return s == AlarmActive || s == AlarmAcknowledged }

// Suppression says why nobody is told of an alarm, in the terms of ISA-18.2. The
// empty one is that nothing keeps it from being told.
type Suppression string

// The suppressions. Where several apply, the first of this list is shown.
const (
	OutOfService Suppression = "out_of_service" // taken out by a person, until that is taken back
	Shelved      Suppression = "shelved"        // put aside by a person, for a time
	ByDesign     Suppression = "suppressed"     // the rule's enable condition does not hold
)

// Suppressions lists them all.
func Suppressions() []Suppression { return []Suppression{OutOfService, Shelved, ByDesign} }

// Open reports whether the alarm still wants attention.
func (s AlarmStatus) Open() bool { return s != AlarmClosed }

// Alarm is the record of one abnormal condition from its beginning to its end.
type Alarm struct {
	ID       string      `json:"id"`
	Model    string      `json:"model_id"`
	Point    string      `json:"point_name"`
	Rule     string      `json:"rule_id"`
	Severity Severity    `json:"severity"`
	Status   AlarmStatus `json:"status"`
	Message  string      `json:"message,omitempty"`
	// Value is the one that raised the alarm; Threshold the limit it broke.
	Value     float64 `json:"value"`
	Threshold float64 `json:"threshold"`
	// Operator and High are the rule's when the alarm was raised; empty and zero
	// for alarms of rules.
	Operator Operator `json:"operator,omitempty"`
	High     float64  `json:"high,omitempty"`
	// Quality is why the point has no value to judge by at the moment, such as
	// "stale"; empty while it has one. The alarm keeps its status meanwhile.
	Quality string `json:"quality,omitempty"`
	// Suppression says whether people are told; ShelvedUntil is when shelving
	// ends by itself; Reason and SuppressedBy are of who shelved it or took it
	// out of service.
	Suppression  Suppression `json:"suppression,omitempty"`
	ShelvedUntil time.Time   `json:"shelved_until,omitzero"`
	Reason       string      `json:"reason,omitempty"`
	SuppressedBy string      `json:"suppressed_by,omitempty"`
	// Chattering says that the alarm came and went so often that it is held until
	// the condition has been over for a minute.
	Chattering bool `json:"chattering,omitempty"`
	// DeviceTime is when the device took the value that raised the alarm; zero
	// where it did not say.
	DeviceTime time.Time `json:"device_time,omitzero"`
	// Raised is when the alarm began (the stored field is "timestamp"), Cleared
	// when the value last came back, Acknowledged when a person took note.
	// Zero where it did not happen.
	Raised         time.Time `json:"timestamp"`
	Cleared        time.Time `json:"cleared_at,omitzero"`
	Acknowledged   time.Time `json:"acknowledged_at,omitzero"`
	Closed         time.Time `json:"closed_at,omitzero"`
	AcknowledgedBy string    `json:"acknowledged_by,omitempty"`
	Comment        string    `json:"comment,omitempty"`
	// Count is how often the condition came true within this record.
	Count int64 `json:"count"`
}

// AlarmTransition names a step in an alarm's life.
type AlarmTransition string

// The transitions, as the journal has them.
const (
	TransitionRaised       AlarmTransition = "raised"
	TransitionReraised     AlarmTransition = "reraised" // true again before it was over
	TransitionCleared      AlarmTransition = "cleared"  // closed at once where it was acknowledged or suppressed
	TransitionLatched      AlarmTransition = "latched"  // the condition is over, the alarm stays until it is reset
	TransitionAcknowledged AlarmTransition = "acknowledged"
	TransitionReset        AlarmTransition = "reset"  // a latched alarm, by an operator
	TransitionClosed       AlarmTransition = "closed" // by hand, by an operator
	TransitionShelved      AlarmTransition = "shelved"
	TransitionUnshelved    AlarmTransition = "unshelved" // by a person, or because its time was over
	TransitionSuppressed   AlarmTransition = "suppressed"
	TransitionUnsuppressed AlarmTransition = "unsuppressed"
	TransitionOutOfService AlarmTransition = "out_of_service"
	TransitionInService    AlarmTransition = "in_service"
	TransitionChattering   AlarmTransition = "chattering"
)

// AlarmEvent is an entry of the alarm journal: one transition of one alarm.
type AlarmEvent struct {
	// Position is the entry's place in the journal; a reader that remembers it
	// goes on from there.
	Position   string          `json:"position"`
	Transition AlarmTransition `json:"transition"`
	// Time is the store's, DeviceTime the device's where it said one.
	Time       time.Time `json:"time"`
	DeviceTime time.Time `json:"device_time,omitzero"`
	// Alarm is empty where a rule without an open alarm was shelved or taken out
	// of service.
	Alarm    string   `json:"alarm,omitempty"`
	Model    string   `json:"model_id"`
	Point    string   `json:"point_name"`
	Rule     string   `json:"rule_id"`
	Severity Severity `json:"severity"`
	// Status is the alarm's status after the transition.
	Status      AlarmStatus `json:"status,omitempty"`
	Suppression Suppression `json:"suppression,omitempty"`
	Value       float64     `json:"value"`
	Threshold   float64     `json:"threshold"`
	Message     string      `json:"message,omitempty"`
	// By and Comment are the person's, where a person caused the transition.
	By      string `json:"by,omitempty"`
	Comment string `json:"comment,omitempty"`
}

// Unannounced is a rule of which nobody is told: it is shelved or out of service,
// whether an alarm of it is open or not.
type Unannounced struct {
	Model string      `json:"model_id"`
	Point string      `json:"point_name"`
	Rule  string      `json:"rule_id"`
	Kind  Suppression `json:"kind"`
	// Until is when shelving ends; zero for out of service.
	Until  time.Time `json:"until,omitzero"`
	By     string    `json:"by"`
	Reason string    `json:"reason"`
	// Since is when it was done.
	Since time.Time `json:"since"`
}
