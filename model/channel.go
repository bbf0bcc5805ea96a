package model

import "time"

// ChannelState is where a channel stands.
type ChannelState string

// The states of a channel.
const (
	ChannelStopped    ChannelState = "stopped"    // no engine runs it
	ChannelStandby    ChannelState = "standby"    // another engine owns it
	ChannelConnecting ChannelState = "connecting" // not connected yet
	ChannelOnline     ChannelState = "online"     // the device answers
	ChannelOffline    ChannelState = "offline"    // the device does not answer; connecting again
)

// ChannelStatus says how a channel is doing.
type ChannelStatus struct {
	ID    string       `json:"id"`
	Name  string       `json:"name"`
	State ChannelState `json:"state"`
	// Since is when State began.
	Since time.Time `json:"since"`
	// LastScan is when samples last arrived; zero when none ever did.
	LastScan time.Time `json:"last_scan,omitzero"`
	// LastScans is when samples of the points of each scan class last arrived, for
	// channels whose points name one; the class of those that name none is
	// "default". A class of which none ever did is not there.
	LastScans map[string]time.Time `json:"last_scans,omitempty"`
	// Owner is the engine that runs the channel; empty when none does.
	Owner string `json:"owner,omitempty"`
	// LastError is the last failure, and LastErrorAt its time.
	LastError   string    `json:"last_error,omitempty"`
	LastErrorAt time.Time `json:"last_error_at,omitzero"`
	// Counters since the engine started.
	Reads      int64 `json:"reads"`      // answers of the driver
	Samples    int64 `json:"samples"`    // samples read
	Stored     int64 `json:"stored"`     // samples sent to the store
	Lost       int64 `json:"lost"`       // changes that could not be kept while the store did not answer
	Errors     int64 `json:"errors"`     // failed reads and connections
	Reconnects int64 `json:"reconnects"` // connections made after the first
	Commands   int64 `json:"commands"`   // commands executed
	Beats      int64 `json:"beats"`      // heartbeats that the device took
}
