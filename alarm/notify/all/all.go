// Package all gathers the senders of Voltage, and the templates, for programs that
// read their targets from a configuration file:
//
//	cfg, err := voltage.LoadConfigWith("site.yaml", voltage.Kinds{Channels: channels.Kinds(), Senders: all.Kinds()})
//
// A program that imports it links every sender. One that needs few passes those
// alone, such as webhook.Kind().
package all

import (
	"github.com/voltageems/voltage/alarm/notify"
	"github.com/voltageems/voltage/alarm/notify/exec"
	"github.com/voltageems/voltage/alarm/notify/mqtt"
	"github.com/voltageems/voltage/alarm/notify/smtp"
	"github.com/voltageems/voltage/alarm/notify/text"
	"github.com/voltageems/voltage/alarm/notify/webhook"
)

// Kinds returns every kind of sender in this module, and templates.
func Kinds() []notify.Kind {
	return []notify.Kind{webhook.Kind(), smtp.Kind(), mqtt.Kind(), exec.Kind(), text.Kind()}
}
