// Package mqtt publishes notifications as JSON to an MQTT broker (3.1.1), with
// quality of service 1. The packets are those of Eclipse Paho; its client is not
// used, for a message here waits for its own acknowledgement, ends with its context,
// and needs no reconnecting, queues and goroutines in the background.
package mqtt

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/eclipse/paho.mqtt.golang/packets"

	"github.com/voltageems/voltage/alarm/notify"
	"github.com/voltageems/voltage/model"
)

const (
	// idle is how long a connection stays after a message, for the next. It is
	// shorter than any router forgets it, so that it needs no pings.
	idle = 5 * time.Second
	// keepAlive is after what silence the broker may think that the client is gone.
	keepAlive = 60 * time.Second
	closeTime = 500 * time.Millisecond
	maxTopic  = 1024
	maxLogin  = 4096
	// maxRemaining is the most that the length of a packet can say.
	maxRemaining = 268_435_455
)

// Config says where to publish.
type Config struct {
	// Broker is mqtt://host[:1883] or mqtts://host[:8883]. Required.
	Broker string
	// Topic may have {site}, {type}, {severity}, {transition}, {model} and {point}
	// in it, for what the message says. Required.
	Topic string
	// ClientID is unique at the broker. Empty means one made of site, engine and
	// target.
	ClientID string
	// Username and Password log in; empty for brokers that want nobody to.
	Username, Password string
	// Retain has the broker keep the last message of a topic.
	Retain bool
	TLS    notify.TLS
}

// New returns the Factory of a broker. The connection is made for a
// message and stays some seconds for the next; a message is delivered when the
// broker has acknowledged it.
func New(c Config) notify.Factory {
	return func(s notify.Setup) (notify.Sender, error) {
		u, err := url.Parse(c.Broker)
		if err != nil || u.Scheme != "mqtt" && u.Scheme != "mqtts" || u.Hostname() == "" || u.User != nil || strings.Trim(u.Path, "/") != "" {
			return nil, fmt.Errorf("%w: broker: want mqtt://host:port or mqtts://host:port", model.ErrInvalid)
		}
		m := &sender{Config: c, secure: u.Scheme == "mqtts", host: u.Hostname(), log: s}
		port := u.Port()
		if port == "" {
			port = map[bool]string{false: "1883", true: "8883"}[m.secure]
		}
		m.address = net.JoinHostPort(m.host, port)
		switch {
		case c.Topic == "":
			return nil, fmt.Errorf("%w: topic: missing", model.ErrInvalid)
		case strings.ContainsAny(c.Topic, "+#\x00") || len(c.Topic) > maxTopic || strings.HasPrefix(c.Topic, "$"):
			return nil, fmt.Errorf("%w: topic %.80q: want one without + and #, not beginning with $, of up to %d bytes", model.ErrInvalid, c.Topic, maxTopic)
		case c.Username == "" && c.Password != "":
			return nil, fmt.Errorf("%w: username: missing, and there is a password", model.ErrInvalid)
		case len(c.ClientID) > 256:
			return nil, fmt.Errorf("%w: client_id: %d bytes: at most 256", model.ErrInvalid, len(c.ClientID))
		case len(c.Username) > maxLogin || len(c.Password) > maxLogin:
			return nil, fmt.Errorf("%w: username and password: want at most %d bytes", model.ErrInvalid, maxLogin)
		case c.TLS != (notify.TLS{}) && !m.secure:
			return nil, fmt.Errorf("%w: tls: the broker is not mqtts", model.ErrInvalid)
		}
		if _, err := c.TLS.Config(m.host); err != nil {
			return nil, err
		}
		if m.ClientID == "" {
			m.ClientID = strings.Trim("voltage-"+s.Site+"-"+s.Engine+"-"+s.ID, "-")
		}
		return m, nil
	}
}

type sender struct {
	Config
	secure        bool
	host, address string
	log           notify.Setup

	mu     sync.Mutex // one message at a time
	conn   net.Conn
	in     *bufio.Reader
	number uint16 // of the last message
	idle   *time.Timer
}

// Send implements notify.Sender.
func (s *sender) Send(ctx context.Context, m notify.Message) error {
	body, err := json.Marshal(m)
	if err != nil {
		return notify.Permanent(err)
	}
	topic := s.topic(m)
	if len(topic) > 1<<16-1 || 2+len(topic)+2+len(body) > maxRemaining {
		return notify.Permanent(errors.New("the message is too large for MQTT"))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := ctx.Err(); err != nil { // it was waited for another message
		return err
	}
	again := s.conn != nil // a connection from before may have ended meanwhile
	err = s.publish(ctx, topic, body)
	if err != nil && again && ctx.Err() == nil {
		err = s.publish(ctx, topic, body)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", s.address, err)
	}
	return nil
}

// publish connects where it must, publishes and waits for the acknowledgement.
// After an error there is no connection. s.mu is held.
func (s *sender) publish(ctx context.Context, topic string, body []byte) (err error) {
	defer func() {
		if err != nil {
			s.close()
			if ctx.Err() != nil {
				err = fmt.Errorf("%w (%w)", err, ctx.Err())
			}
		}
	}()
	if s.idle != nil {
		s.idle.Stop()
	}
	if s.conn == nil {
		if err := s.dial(ctx); err != nil {
			return err
		}
	}
	conn := s.conn
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	s.number = s.number%(1<<16-1) + 1
	p := packets.NewControlPacket(packets.Publish).(*packets.PublishPacket)
	p.Qos, p.Retain, p.TopicName, p.MessageID, p.Payload = 1, s.Retain, topic, s.number, body
	if err := p.Write(conn); err != nil {
		return fmt.Errorf("publishing: %w", err)
	}
	for {
		answer, err := readAnswer(s.in)
		if err != nil {
			return fmt.Errorf("waiting for the acknowledgement: %w", err)
		}
		if ack, ok := answer.(*packets.PubackPacket); ok && ack.MessageID == s.number {
			break
		}
	}
	s.idle = time.AfterFunc(idle, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.conn == conn {
			s.leave()
		}
	})
	return nil
}

func (s *sender) topic(m notify.Message) string {
	plain := strings.NewReplacer("+", "_", "#", "_", "/", "_", "\x00", "_")
	return strings.NewReplacer("{site}", plain.Replace(m.Site), "{type}", plain.Replace(m.Type), "{severity}", plain.Replace(string(m.Severity)),
		"{transition}", plain.Replace(string(m.Transition)), "{model}", plain.Replace(m.Model), "{point}", plain.Replace(m.Point)).Replace(s.Topic)
}

// dial connects and logs in. s.mu is held.
func (s *sender) dial(ctx context.Context) error {
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", s.address)
	if err != nil {
		return err
	}
	if s.secure {
		c, err := s.TLS.Config(s.host)
		if err != nil {
			_ = conn.Close()
			return err
		}
		secured := tls.Client(conn, c)
		if err := secured.HandshakeContext(ctx); err != nil {
			_ = conn.Close()
			return err
		}
		conn = secured
	}
	s.conn, s.in = conn, bufio.NewReader(conn)
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	p := packets.NewControlPacket(packets.Connect).(*packets.ConnectPacket)
	p.ProtocolName, p.ProtocolVersion, p.CleanSession, p.Keepalive = "MQTT", 4, true, uint16(keepAlive/time.Second)
	p.ClientIdentifier = s.ClientID
	p.UsernameFlag, p.Username = s.Username != "", s.Username
	p.PasswordFlag, p.Password = s.Password != "", []byte(s.Password)
	if err := p.Write(conn); err != nil {
		return fmt.Errorf("connecting: %w", err)
	}
	answer, err := readAnswer(s.in)
	if err != nil {
		return fmt.Errorf("connecting: %w", err)
	}
	return accepted(answer)
}

// close ends the connection. s.mu is held.
func (s *sender) close() {
	if s.conn != nil {
		_ = s.conn.Close()
		s.conn = nil
	}
}

// leave ends the connection politely. s.mu is held.
func (s *sender) leave() {
	if s.conn == nil {
		return
	}
	if s.conn.SetDeadline(time.Now().Add(closeTime)) == nil {
		_ = packets.NewControlPacket(packets.Disconnect).Write(s.conn) // a broker that is gone needs no farewell
	}
	s.close()
}

// Close implements io.Closer.
func (s *sender) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.idle != nil {
		s.idle.Stop()
	}
	s.leave()
	return nil
}

// Kind returns the broker for configuration files: "sender: mqtt".
func Kind() notify.Kind {
	return notify.Kind{Name: "mqtt", Open: func(decode func(any) error) (notify.Factory, error) {
		var c struct {
			Broker   string     `yaml:"broker"`
			Topic    string     `yaml:"topic"`
			ClientID string     `yaml:"client_id"`
			Username string     `yaml:"username"`
			Password string     `yaml:"password"`
			Retain   bool       `yaml:"retain"`
			TLS      notify.TLS `yaml:"tls"`
		}
		if err := decode(&c); err != nil {
			return nil, err
		}
		return New(Config(c)), nil
	}}
}
