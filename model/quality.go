package model

import "fmt"

// Quality says how far a value can be trusted. The zero value is Good. The
// distinctions follow the quality descriptors of IEC 60870-5-101 clause 7.2.6.3
// (invalid, not topical, substituted, blocked, overflow) and the three classes
// of OPC UA Part 8 (good, uncertain, bad).
type Quality uint8

// The qualities. Good, Uncertain and Substituted are usable: alarms and rules
// decide on them. On all others they hold what they decided before.
const (
	Good        Quality = iota // measured and current
	Uncertain                  // usable with care, the device said so
	Substituted                // entered by hand or computed in place of a measurement
	Bad                        // not usable, no reason known
	Invalid                    // the device says that the value is wrong, or it cannot be decoded
	Overflow                   // outside the range that the device can express or the point allows
	Blocked                    // the device holds an old value on purpose
	Stale                      // not refreshed in time (IEC 60870-5: not topical)
	Offline                    // the device or its channel does not answer
)

var qualityNames = [...]string{
	Good: "good", Uncertain: "uncertain", Substituted: "substituted", Bad: "bad", Invalid: "invalid",
	Overflow: "overflow", Blocked: "blocked", Stale: "stale", Offline: "offline",
}

// Usable reports whether alarms, rules and calculations may decide on the value.
func (q Quality) Usable() bool { return q <= Substituted }

// String returns the quality's stored form, such as "good" or "offline".
func (q Quality) String() string {
	if int(q) < len(qualityNames) {
		return qualityNames[q]
	}
	return "bad"
}

// ParseQuality reads the stored form; the empty string is Good, for only what
// is not good is stored.
func ParseQuality(s string) (Quality, error) {
	if s == "" {
		return Good, nil
	}
	for q, name := range qualityNames {
		if name == s {
			return Quality(q), nil
		}
	}
	return Bad, fmt.Errorf("%w: quality %.40q", ErrInvalid, s)
}

// MarshalText implements encoding.TextMarshaler.
func (q Quality) MarshalText() ([]byte, error) { return []byte(q.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (q *Quality) UnmarshalText(b []byte) error {
	v, err := ParseQuality(string(b))
	*q = v
	return err
}
