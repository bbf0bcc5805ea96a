package voltage

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/voltageems/voltage/channel"
)

// loadScans are scan classes by name.
type loadScans = map[string]time.Duration

// failChannel reports what is wrong with a field of a channel, or of a profile; of
// a scan class at that class.
func (l *loader) failChannel(p loadPath, classes loadScans, field, text string) {
	at := p.field(field)
	if class, _, _ := strings.Cut(text, " "); field == "scans" {
		class = strings.TrimSuffix(class, ":")
		if _, ok := classes[class]; ok {
			at, text = at.with(class), strings.TrimLeft(text[len(class):], ": ")
		}
	}
	l.fail(at, "%s", text)
}

// checkScans reports the points whose scan class is none of the channel's.
func (t *loadTable) checkScans(classes loadScans) {
	for i, p := range t.points {
		if _, ok := classes[p.Scan]; ok || p.Scan == "" || p.Scan == channel.ScanOnce || p.Scan == channel.ScanDemand || t.broken[i] {
			continue
		}
		known := slices.Sorted(maps.Keys(classes))
		known = slices.DeleteFunc(known, func(class string) bool { return class == channel.ScanOnce || class == channel.ScanDemand })
		known = append(known, channel.ScanOnce, channel.ScanDemand)
		t.at(i, "scan", fmt.Sprintf("%.40q is no scan class of the channel: want %s, or nothing for its scan", p.Scan, strings.Join(known, ", ")))
		t.broken[i] = true
	}
}
