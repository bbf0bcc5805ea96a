package scripts

import (
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/voltageems/voltage/model"
)

// lastScanOf begins the names of the fields that have the last scan of one scan
// class.
const lastScanOf = "last_scan:"

// StatusFields returns a channel's status as comsrv:<channel>:status keeps it.
// Times are Unix milliseconds, empty for what did not happen.
func StatusFields(s model.ChannelStatus) []Field {
	count := func(n int64) string { return strconv.FormatInt(n, 10) }
	at := func(t time.Time) string {
		if t.IsZero() {
			return ""
		}
		return count(t.UnixMilli())
	}
	fields := []Field{
		{Name: "state", Value: string(s.State)}, {Name: "since", Value: at(s.Since)},
		{Name: "last_scan", Value: at(s.LastScan)},
		{Name: "last_error", Value: s.LastError}, {Name: "last_error_at", Value: at(s.LastErrorAt)},
		{Name: "reads", Value: count(s.Reads)}, {Name: "samples", Value: count(s.Samples)},
		{Name: "stored", Value: count(s.Stored)}, {Name: "lost", Value: count(s.Lost)},
		{Name: "errors", Value: count(s.Errors)}, {Name: "reconnects", Value: count(s.Reconnects)},
		{Name: "commands", Value: count(s.Commands)}, {Name: "beats", Value: count(s.Beats)},
	}
	for _, class := range slices.Sorted(maps.Keys(s.LastScans)) {
		fields = append(fields, Field{Name: lastScanOf + class, Value: at(s.LastScans[class])})
	}
	return fields
}

// ParseStatus reads what StatusFields wrote. Without an owner the channel is
// stopped, whatever stands there. Name is the id.
func ParseStatus(id string, fields map[string]string, owner string) model.ChannelStatus {
	count := func(name string) int64 {
		n, _ := strconv.ParseInt(fields[name], 10, 64)
		return n
	}
	at := func(name string) time.Time { return millis(fields[name]) }
	s := model.ChannelStatus{ID: id, Name: id, State: model.ChannelState(fields["state"]), Owner: owner,
		Since: at("since"), LastScan: at("last_scan"), LastError: fields["last_error"], LastErrorAt: at("last_error_at"),
		Reads: count("reads"), Samples: count("samples"), Stored: count("stored"), Lost: count("lost"),
		Errors: count("errors"), Reconnects: count("reconnects"), Commands: count("commands"), Beats: count("beats")}
	for name := range fields {
		if class, ok := strings.CutPrefix(name, lastScanOf); ok && !at(name).IsZero() {
			if s.LastScans == nil {
				s.LastScans = map[string]time.Time{}
			}
			s.LastScans[class] = at(name)
		}
	}
	if owner == "" {
		s.State = model.ChannelStopped
	}
	return s
}
