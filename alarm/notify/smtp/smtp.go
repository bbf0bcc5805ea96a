// Package smtp sends notifications as e-mail.
package smtp

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/wneessen/go-mail"

	"github.com/voltageems/voltage/alarm/notify"
	"github.com/voltageems/voltage/model"
)

// Security is how the connection is secured.
type Security string

// The ways. None sends everything readable, and a password only to this machine.
const (
	StartTLS Security = "starttls" // plain first, then TLS in any case
	TLS      Security = "tls"      // TLS from the beginning
	None     Security = "none"
)

const (
	maxRecipients = 50
	// maxPartial is of how many messages it is remembered who has them already.
	maxPartial = 1000
	// headTime bounds what remains to be done when the context has no deadline.
	headTime = time.Minute
)

// Config says through which server mail is sent, and to whom.
type Config struct {
	// Server is host:port, or a host for port 587, or 465 with TLS. Required.
	Server string
	// Security is StartTLS when empty.
	Security Security
	TLS      notify.TLS
	// Username and Password log in; empty for servers that want nobody to.
	Username, Password string
	// From is the sender's address, with or without a name. Required.
	From string
	// To are the recipients, each of whom gets a mail of his own. Required, up to 50.
	To []string
	// Hello is how this host names itself. Empty means its host name.
	Hello string
}

// New returns the Factory of a mail target. What a server refuses with 4xx, and a
// log-in that fails, is tried again; 5xx is for good. The Message-ID is the same
// when a message is sent again.
func New(c Config) notify.Factory {
	return func(s notify.Setup) (notify.Sender, error) {
		m := &sender{Config: c, log: s, had: map[string]map[string]bool{}}
		if m.Security == "" {
			m.Security = StartTLS
		}
		port := "587"
		switch m.Security {
		case StartTLS:
		case TLS:
			port = "465"
		case None:
			if c.TLS != (notify.TLS{}) {
				return nil, fmt.Errorf("%w: tls: there is no TLS with security: none", model.ErrInvalid)
			}
		default:
			return nil, fmt.Errorf("%w: security %.20q: want starttls, tls or none", model.ErrInvalid, c.Security)
		}
		if c.Server == "" {
			return nil, fmt.Errorf("%w: server: missing", model.ErrInvalid)
		}
		host, given, err := net.SplitHostPort(c.Server)
		if err != nil {
			host, given = strings.Trim(c.Server, "[]"), port
		}
		n, err := strconv.ParseUint(given, 10, 16)
		if err != nil || n == 0 || host == "" {
			return nil, fmt.Errorf("%w: server %.80q: want host:port", model.ErrInvalid, c.Server)
		}
		m.host, m.port = host, int(n)
		if len(c.To) == 0 || len(c.To) > maxRecipients {
			return nil, fmt.Errorf("%w: to: %d recipients: want 1 to %d", model.ErrInvalid, len(c.To), maxRecipients)
		}
		if (c.Username == "") != (c.Password == "") {
			return nil, fmt.Errorf("%w: username and password: want both or none", model.ErrInvalid)
		}
		if m.Security == None && c.Password != "" && !slices.Contains([]string{"localhost", "127.0.0.1", "::1"}, host) {
			return nil, fmt.Errorf("%w: security none: with a password this is for a server on this machine alone", model.ErrInvalid)
		}
		for _, to := range c.To {
			if _, err := m.mail(notify.Message{}, to); err != nil {
				return nil, fmt.Errorf("%w: %w", model.ErrInvalid, err)
			}
		}
		if _, err := m.client(time.Second); err != nil {
			return nil, err
		}
		return m, nil
	}
}

type sender struct {
	Config
	log  notify.Setup
	host string
	port int

	mu    sync.Mutex
	had   map[string]map[string]bool // message → recipients that have it, while others do not
	order []string                   // of had
}

func (s *sender) client(timeout time.Duration) (*mail.Client, error) {
	options := []mail.Option{mail.WithPort(s.port), mail.WithTimeout(timeout), mail.WithoutNoop()}
	switch s.Security {
	case None:
		options = append(options, mail.WithTLSPolicy(mail.NoTLS))
	default:
		c, err := s.Config.TLS.Config(s.host)
		if err != nil {
			return nil, err
		}
		options = append(options, mail.WithTLSConfig(c), mail.WithTLSPolicy(mail.TLSMandatory))
		if s.Security == TLS {
			options = append(options, mail.WithSSL())
		}
	}
	if s.Hello != "" {
		options = append(options, mail.WithHELO(s.Hello))
	}
	if s.Username != "" {
		options = append(options, mail.WithSMTPAuth(mail.SMTPAuthPlain), mail.WithUsername(s.Username), mail.WithPassword(s.Password))
	}
	c, err := mail.NewClient(s.host, options...)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", model.ErrInvalid, err)
	}
	return c, nil
}

// mail makes the mail of one recipient.
func (s *sender) mail(m notify.Message, to string) (*mail.Msg, error) {
	msg := mail.NewMsg(mail.WithNoDefaultUserAgent())
	if err := msg.From(s.From); err != nil {
		return nil, fmt.Errorf("from %.80q: %w", s.From, err)
	}
	if err := msg.To(to); err != nil {
		return nil, fmt.Errorf("to %.80q: %w", to, err)
	}
	msg.Subject(strings.Join(strings.Fields(m.Subject), " "))
	sum := sha256.Sum256([]byte(s.log.Site + "\x00" + m.ID + "\x00" + to))
	msg.SetMessageIDWithValue(hex.EncodeToString(sum[:16]) + "@voltage.invalid")
	msg.SetDateWithValue(m.Time)
	msg.SetGenHeader("Auto-Submitted", "auto-generated")
	if m.Severity == model.Critical {
		msg.SetImportance(mail.ImportanceUrgent)
	}
	msg.SetBodyString(mail.TypeTextPlain, m.Text)
	return msg, nil
}

// Send implements notify.Sender.
func (s *sender) Send(ctx context.Context, m notify.Message) error {
	timeout := headTime
	if end, ok := ctx.Deadline(); ok {
		timeout = max(time.Until(end), time.Millisecond)
	}
	c, err := s.client(timeout)
	if err != nil {
		return err
	}
	var list []*mail.Msg
	var to []string
	for _, one := range s.To {
		if s.has(m.ID, one) {
			continue
		}
		msg, err := s.mail(m, one)
		if err != nil {
			return notify.Permanent(err)
		}
		list, to = append(list, msg), append(to, one)
	}
	if err := c.DialWithContext(ctx); err != nil {
		return fmt.Errorf("%s: %w", s.host, err)
	}
	defer func() { _ = c.Close() }() // what counts is what the server said of each mail
	// The library looks at the time alone, not at the end of a context.
	defer context.AfterFunc(ctx, func() { _ = c.Close() })()
	failed := c.Send(list...)
	var errs []error
	permanent := true
	for i, msg := range list {
		if msg.IsDelivered() {
			s.note(m.ID, to[i])
			continue
		}
		err := msg.SendError()
		if err == nil {
			err = failed
		}
		if err == nil {
			err = errors.New("not sent")
		}
		var told *mail.SendError
		if !errors.As(err, &told) || told.ErrorCode() < 500 {
			permanent = false
		}
		errs = append(errs, fmt.Errorf("%s: mail to %s: %w", s.host, to[i], err))
	}
	if len(errs) == 0 {
		s.forget(m.ID)
		return nil
	}
	err = errors.Join(errs...)
	if permanent {
		s.forget(m.ID)
		return notify.Permanent(err)
	}
	return err
}

// has reports whether a recipient has a message already.
func (s *sender) has(id, to string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.had[id][to]
}

func (s *sender) note(id, to string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.had[id] == nil {
		if len(s.order) >= maxPartial {
			delete(s.had, s.order[0])
			s.order = s.order[1:]
		}
		s.had[id] = map[string]bool{}
		s.order = append(s.order, id)
	}
	s.had[id][to] = true
}

func (s *sender) forget(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.had[id] == nil {
		return
	}
	delete(s.had, id)
	for i, o := range s.order {
		if o == id {
			s.order = append(s.order[:i:i], s.order[i+1:]...)
			break
		}
	}
}

// Kind returns the mail target for configuration files: "sender: smtp".
func Kind() notify.Kind {
	return notify.Kind{Name: "smtp", Open: func(decode func(any) error) (notify.Factory, error) {
		var c struct {
			Server   string     `yaml:"server"`
			Security Security   `yaml:"security"`
			TLS      notify.TLS `yaml:"tls"`
			Username string     `yaml:"username"`
			Password string     `yaml:"password"`
			From     string     `yaml:"from"`
			To       []string   `yaml:"to"`
			Hello    string     `yaml:"hello"`
		}
		if err := decode(&c); err != nil {
			return nil, err
		}
		return New(Config{Server: c.Server, Security: c.Security, TLS: c.TLS, Username: c.Username, Password: c.Password, From: c.From, To: c.To, Hello: c.Hello}), nil
	}}
}
