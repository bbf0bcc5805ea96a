// Package exec tells a program of notifications, such as one that sends text
// messages over a modem.
package exec

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/voltageems/voltage/alarm/notify"
	"github.com/voltageems/voltage/channel"
	"github.com/voltageems/voltage/model"
)

const (
	// ExitRefused is the exit code by which a program says that it will never take
	// the message (EX_DATAERR).
	ExitRefused = 65
	// maxOutput is how much of what a program prints is kept for the error.
	maxOutput = 1 << 10
	// maxVariable is how much of a text is in the environment: systems refuse a
	// program for which it is too large. The JSON has all of it.
	maxVariable = 16 << 10
	// waitDelay is how long the pipes of a program that ended may stay open, for
	// something that it has started.
	waitDelay = time.Second
)

// Config says which program is run.
type Config struct {
	// Command is the program's absolute path. Required. No shell is involved.
	Command channel.Path
	// Args are its arguments, as they are.
	Args []string
	// Env are further variables of its environment. Beside them it gets PATH, HOME,
	// LANG, TZ and TMPDIR of this process, and VOLTAGE_*; nothing else, for there may
	// be secrets.
	Env map[string]string
}

// New returns the Factory of a program. It gets the message as JSON on its
// standard input and in VOLTAGE_ID, VOLTAGE_TYPE, VOLTAGE_SITE,
// VOLTAGE_TRANSITION, VOLTAGE_STATUS, VOLTAGE_ALARM, VOLTAGE_MODEL, VOLTAGE_POINT,
// VOLTAGE_RULE, VOLTAGE_SEVERITY, VOLTAGE_VALUE, VOLTAGE_MESSAGE,
// VOLTAGE_TIME, VOLTAGE_ESCALATION, VOLTAGE_LANGUAGE, VOLTAGE_SUBJECT and
// VOLTAGE_TEXT. Exit code 0 means that it took the message, ExitRefused that it never will,
// any other that it is to be run again. When its time is over, it is killed with
// everything that it has started.
func New(c Config) notify.Factory {
	return func(notify.Setup) (notify.Sender, error) {
		if !filepath.IsAbs(string(c.Command)) {
			return nil, fmt.Errorf("%w: command %.80q: want an absolute path", model.ErrInvalid, c.Command)
		}
		for _, a := range append([]string{string(c.Command)}, c.Args...) {
			if strings.ContainsRune(a, 0) {
				return nil, fmt.Errorf("%w: args: %.40q has a zero byte", model.ErrInvalid, a)
			}
		}
		for name, value := range c.Env {
			if name == "" || strings.ContainsAny(name, "=\x00") || strings.ContainsRune(value, 0) || strings.HasPrefix(name, "VOLTAGE_") {
				return nil, fmt.Errorf("%w: env: %.40q is no name of a variable, or begins with VOLTAGE_, or its value has a zero byte", model.ErrInvalid, name)
			}
		}
		return &sender{c}, nil
	}
}

type sender struct{ Config }

// Send implements notify.Sender.
func (s *sender) Send(ctx context.Context, m notify.Message) error {
	body, err := json.Marshal(m)
	if err != nil {
		return notify.Permanent(err)
	}
	cmd := exec.CommandContext(ctx, string(s.Command), s.Args...)
	cmd.Env = s.environment(m)
	cmd.Stdin = bytes.NewReader(body)
	out := &tail{}
	cmd.Stdout, cmd.Stderr = out, out
	cmd.WaitDelay = waitDelay
	ownGroup(cmd)
	err = cmd.Run()
	var exit *exec.ExitError
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return fmt.Errorf("%s: killed, its time was over: %w%s", s.Command, ctx.Err(), out)
	case errors.Is(err, exec.ErrWaitDelay) && cmd.ProcessState.Success():
		return nil // it took the message; something that it has started goes on
	case errors.As(err, &exit) && exit.ExitCode() == ExitRefused:
		return notify.Permanent(fmt.Errorf("%s: %w%s", s.Command, err, out))
	case cmd.ProcessState != nil && cmd.ProcessState.Success():
		return nil // it did not read its input to the end
	}
	return fmt.Errorf("%s: %w%s", s.Command, err, out)
}

func (s *sender) environment(m notify.Message) []string {
	var env []string
	add := func(name, value string) {
		env = append(env, name+"="+strings.ReplaceAll(value, "\x00", ""))
	}
	for _, name := range []string{"PATH", "HOME", "LANG", "TZ", "TMPDIR"} {
		if value, ok := os.LookupEnv(name); ok {
			add(name, value)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(s.Env)) {
		add(name, s.Env[name])
	}
	for _, v := range [][2]string{
		{"ID", m.ID}, {"TYPE", m.Type}, {"SITE", m.Site}, {"TRANSITION", string(m.Transition)}, {"STATUS", string(m.Status)}, {"ALARM", m.Alarm},
		{"MODEL", m.Model}, {"POINT", m.Point}, {"RULE", m.Rule}, {"SEVERITY", string(m.Severity)}, {"VALUE", m.Value.String()}, {"MESSAGE", m.Message},
		{"TIME", m.Time.Format(time.RFC3339Nano)}, {"ESCALATION", m.Escalation}, {"LANGUAGE", string(m.Language)}, {"SUBJECT", m.Subject}, {"TEXT", m.Text},
	} {
		if len(v[1]) > maxVariable {
			v[1] = strings.ToValidUTF8(v[1][:maxVariable], "") + " …"
		}
		add("VOLTAGE_"+v[0], v[1])
	}
	if m.Count > 0 {
		add("VOLTAGE_COUNT", strconv.Itoa(m.Count))
	}
	return env
}

// tail keeps the end of what is written to it.
type tail struct{ kept []byte }

func (t *tail) Write(b []byte) (int, error) {
	t.kept = append(t.kept, b[max(len(b)-maxOutput, 0):]...)
	t.kept = t.kept[max(len(t.kept)-maxOutput, 0):]
	return len(b), nil
}

// String returns it for the end of an error.
func (t *tail) String() string {
	if text := strings.TrimSpace(string(t.kept)); text != "" {
		return fmt.Sprintf(": %q", text)
	}
	return ""
}

// Kind returns the program for configuration files: "sender: exec".
func Kind() notify.Kind {
	return notify.Kind{Name: "exec", Open: func(decode func(any) error) (notify.Factory, error) {
		var c struct {
			Command channel.Path      `yaml:"command"`
			Args    []string          `yaml:"args"`
			Env     map[string]string `yaml:"env"`
		}
		if err := decode(&c); err != nil {
			return nil, err
		}
		if c.Command != "" { // a file's folder may be given as a relative path
			path, err := filepath.Abs(string(c.Command))
			if err != nil {
				return nil, err
			}
			c.Command = channel.Path(path)
		}
		return New(Config(c)), nil
	}}
}
