package api

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"github.com/voltageems/voltage/model"
	"github.com/voltageems/voltage/scripts"
)

var channelStates = []model.ChannelState{
	model.ChannelStopped, model.ChannelStandby, model.ChannelConnecting, model.ChannelOnline, model.ChannelOffline,
}

// metrics answers in the Prometheus text format 0.0.4. When the store does not
// answer, voltage_up is 0 and what comes from the store is left out: a gap says
// more than a false zero.
func (h *Handler) metrics(w http.ResponseWriter, r *http.Request) error {
	ctx, cancel := limited(r)
	defer cancel()
	channels, channelsErr := h.site.Channels(ctx)
	alarms, alarmsErr := h.alarmCountsOf(ctx)

	var m metricsText
	m.family("voltage_build_info", "gauge", "Version of Voltage and of Go; always 1.")
	m.sample("voltage_build_info", 1, "version", h.version, "goversion", runtime.Version())
	m.family("voltage_up", "gauge", "Whether the store answered this scrape.")
	up := 1.0
	if channelsErr != nil || alarmsErr != nil {
		up = 0
	}
	m.sample("voltage_up", up)
	m.family("voltage_websocket_clients", "gauge", "WebSockets that are open.")
	m.sample("voltage_websocket_clients", float64(h.hub.count()))
	if channelsErr == nil {
		m.channels(channels)
	}
	if alarmsErr == nil {
		m.alarms(alarms)
	}
	m.servers(h.site.Servers())
	if n, err := h.site.Notifications(ctx); err == nil {
		m.notifications(n)
	}
	m.scripts(h.site.ScriptStats())
	w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
	_, _ = w.Write([]byte(m.text.String())) // a failed write means that the client is gone
	return nil
}

// metricsText builds the text format: HELP and TYPE once per family, then the
// family's samples together.
type metricsText struct{ text strings.Builder }

func (m *metricsText) family(name, kind, help string) {
	fmt.Fprintf(&m.text, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, kind)
}

var labelEscaper = strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`)

// sample writes one line; labels are names and values in turn.
func (m *metricsText) sample(name string, value float64, labels ...string) {
	m.text.WriteString(name)
	for i := 0; i+1 < len(labels); i += 2 {
		m.text.WriteByte("{,"[min(i, 1)])
		m.text.WriteString(labels[i] + `="` + labelEscaper.Replace(strings.ToValidUTF8(labels[i+1], "\uFFFD")) + `"`)
	}
	if len(labels) > 0 {
		m.text.WriteByte('}')
	}
	m.text.WriteString(" " + strconv.FormatFloat(value, 'g', -1, 64) + "\n")
}

func (m *metricsText) channels(channels []model.ChannelStatus) {
	m.family("voltage_channel_state", "gauge", "1 for the state that the channel is in, 0 for the others.")
	for _, c := range channels {
		for _, s := range channelStates {
			in := 0.0
			if c.State == s {
				in = 1
			}
			m.sample("voltage_channel_state", in, "channel", c.ID, "state", string(s))
		}
	}
	m.family("voltage_channel_last_scan_timestamp_seconds", "gauge", "When samples last arrived, Unix seconds.")
	for _, c := range channels {
		if !c.LastScan.IsZero() {
			m.sample("voltage_channel_last_scan_timestamp_seconds", float64(c.LastScan.UnixMilli())/1000, "channel", c.ID)
		}
	}
	for _, counter := range []struct {
		name, help string
		of         func(model.ChannelStatus) int64
	}{
		{"reads", "Answers of the driver.", func(c model.ChannelStatus) int64 { return c.Reads }},
		{"samples", "Samples read.", func(c model.ChannelStatus) int64 { return c.Samples }},
		{"stored", "Samples sent to the store.", func(c model.ChannelStatus) int64 { return c.Stored }},
		{"lost", "Changes that could not be kept while the store did not answer.", func(c model.ChannelStatus) int64 { return c.Lost }},
		{"errors", "Failed reads and connections.", func(c model.ChannelStatus) int64 { return c.Errors }},
		{"reconnects", "Connections made after the first.", func(c model.ChannelStatus) int64 { return c.Reconnects }},
		{"commands", "Commands executed.", func(c model.ChannelStatus) int64 { return c.Commands }},
	} {
		name := "voltage_channel_" + counter.name + "_total"
		m.family(name, "counter", counter.help)
		for _, c := range channels {
			m.sample(name, float64(counter.of(c)), "channel", c.ID)
		}
	}
}

func (h *Handler) alarmCountsOf(ctx context.Context) (model.AlarmCounts, error) {
	store, err := h.site.AlarmStore()
	if err != nil {
		return model.AlarmCounts{}, err
	}
	return store.AlarmCounts(ctx)
}

// alarms writes how many alarms there are. Every severity, status and suppression has
// a sample, so that no series begins with the first alarm.
func (m *metricsText) alarms(c model.AlarmCounts) {
	m.family("voltage_alarms_open", "gauge", "Alarms that are not closed, by severity.")
	for _, s := range model.Severities() {
		m.sample("voltage_alarms_open", float64(c.Severities[s]), "severity", string(s))
	}
	m.family("voltage_alarms_status", "gauge", "Alarms that are not closed, by status.")
	for _, s := range model.AlarmStatuses() {
		if s.Open() {
			m.sample("voltage_alarms_status", float64(c.Statuses[s]), "status", string(s))
		}
	}
	m.family("voltage_alarms_unacknowledged", "gauge", "Alarms that nobody took note of and nothing suppresses, by severity.")
	for _, s := range model.Severities() {
		m.sample("voltage_alarms_unacknowledged", float64(c.Unacknowledged[s]), "severity", string(s))
	}
	m.family("voltage_alarms_suppressed", "gauge", "Alarms that are not closed and of which nobody is told, by why.")
	for _, s := range model.Suppressions() {
		m.sample("voltage_alarms_suppressed", float64(c.Suppressions[s]), "suppression", string(s))
	}
	m.family("voltage_alarms_chattering", "gauge", "Alarms that are held because they came and went too often.")
	m.sample("voltage_alarms_chattering", float64(c.Chattering))
	m.family("voltage_alarm_rules_unannounced", "gauge", "Alarm rules that are shelved or out of service, with an open alarm or without.")
	m.sample("voltage_alarm_rules_unannounced", float64(c.Unannounced))
}

// servers writes how the servers of this process are doing.
func (m *metricsText) servers(servers []model.ServerStatus) {
	m.family("voltage_server_serving", "gauge", "1 while the server towards other systems runs.")
	for _, s := range servers {
		serving := 0.0
		if s.Serving {
			serving = 1
		}
		m.sample("voltage_server_serving", serving, "server", s.ID)
	}
	m.family("voltage_server_failures_total", "counter", "Ends of the server that nobody asked for.")
	for _, s := range servers {
		m.sample("voltage_server_failures_total", float64(s.Failures), "server", s.ID)
	}
}

// scripts writes what the script calls of this process came to.
func (m *metricsText) scripts(stats []scripts.ScriptStats) {
	for _, counter := range []struct {
		name, help string
		of         func(scripts.ScriptStats) int64
	}{
		{"calls", "Script calls of this process that were answered.", func(s scripts.ScriptStats) int64 { return s.Calls }},
		{"errors", "Script calls that the script failed.", func(s scripts.ScriptStats) int64 { return s.Errors }},
		{"lost", "Script calls without an answer; they are not among the calls.", func(s scripts.ScriptStats) int64 { return s.Lost }},
		{"slow", "Script calls that took long.", func(s scripts.ScriptStats) int64 { return s.Slow }},
		{"points", "Samples that the script stored.", func(s scripts.ScriptStats) int64 { return s.Points }},
	} {
		name := "voltage_script_" + counter.name + "_total"
		m.family(name, "counter", counter.help)
		for _, s := range stats {
			for _, v := range s.Versions {
				m.sample(name, float64(counter.of(v)), "script", s.Script, "version", v.Version)
			}
		}
	}
	m.family("voltage_script_refusals_total", "counter", "Script calls that were answered with a refusal, by its code.")
	for _, s := range stats {
		for _, code := range slices.Sorted(maps.Keys(s.Refused)) {
			m.sample("voltage_script_refusals_total", float64(s.Refused[code]), "script", s.Script, "code", code)
		}
	}
	const histogram = "voltage_script_seconds"
	m.family(histogram, "histogram", "Round trip of script calls, with the network and the wait behind others.")
	for _, s := range stats {
		for _, v := range s.Versions {
			for _, b := range v.Histogram {
				m.sample(histogram+"_bucket", float64(b.Calls), "script", s.Script, "version", v.Version,
					"le", strconv.FormatFloat(b.UpTo.Seconds(), 'g', -1, 64))
			}
			m.sample(histogram+"_bucket", float64(v.Calls), "script", s.Script, "version", v.Version, "le", "+Inf")
			m.sample(histogram+"_sum", v.Total.Seconds(), "script", s.Script, "version", v.Version)
			m.sample(histogram+"_count", float64(v.Calls), "script", s.Script, "version", v.Version)
		}
	}
}
