package channel

// Adviser is implemented by drivers that can say what is odd about a channel's
// points though it may be meant so. The linter of device profiles asks it.
type Adviser interface {
	// Advise returns what is odd. It does no I/O.
	Advise() []Advice
	// Plausible returns the range, in the point's unit, outside of which the driver
	// believes no value of the point; infinite where it is open. It is false for
	// points without one.
	Plausible(point string) (min, max float64, ok bool)
}

// Advice is one thing that is odd.
type Advice struct {
	// Point is the id of the point that it is about; empty for the whole channel.
	Point string
	// Field is the key of the point that it is about, such as "address".
	Field string
	// Text says what is odd and what to do about it.
	Text string
}
