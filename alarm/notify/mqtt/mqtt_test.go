package mqtt

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/eclipse/paho.mqtt.golang/packets"
	"github.com/stretchr/testify/require"

	"github.com/voltageems/voltage/alarm/notify"
	"github.com/voltageems/voltage/channel"
	"github.com/voltageems/voltage/internal/testcert"
	"github.com/voltageems/voltage/model"
)

// tool finds a program of mosquitto, also where only root's PATH has it.
func tool(t *testing.T, name string) string {
	t.Helper()
	for _, n := range []string{name, "/usr/sbin/" + name} {
		if path, err := exec.LookPath(n); err == nil {
			return path
		}
	}
	if os.Getenv("VOLTAGE_CI") == "1" {
		t.Fatalf("%s is not on this machine, and VOLTAGE_CI is set", name)
	}
	t.Skipf("%s is not on this machine", name)
	return ""
}

// broker is a Mosquitto of one test.
type broker struct {
	addr string
	ca   *testcert.CA
	cmd  *exec.Cmd
	conf string
}

func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

func startBroker(t *testing.T, secure bool) *broker {
	t.Helper()
	folder := t.TempDir()
	b := &broker{ca: testcert.NewCA(t), conf: filepath.Join(folder, "mosquitto.conf")}
	cert := b.ca.Issue(t, testcert.Spec{Hosts: []string{"127.0.0.1"}})
	port := freePort(t)
	b.addr = fmt.Sprintf("127.0.0.1:%d", port)
	text := fmt.Sprintf("listener %d 127.0.0.1\nallow_anonymous true\nuser root\n", port)
	if secure {
		text += fmt.Sprintf("certfile %s\nkeyfile %s\ncafile %s\nrequire_certificate true\n", cert.CertFile, cert.KeyFile, b.ca.File)
	}
	require.NoError(t, os.WriteFile(b.conf, []byte(text), 0o600))
	b.start(t)
	return b
}

func (b *broker) start(t *testing.T) {
	t.Helper()
	b.cmd = exec.Command(tool(t, "mosquitto"), "-c", b.conf)
	b.cmd.Stderr, b.cmd.Stdout = t.Output(), t.Output()
	require.NoError(t, b.cmd.Start())
	cmd := b.cmd
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	require.Eventually(t, func() bool {
		c, err := net.Dial("tcp", b.addr)
		if err == nil {
			_ = c.Close()
		}
		return err == nil
	}, time.Minute, 5*time.Millisecond)
}

func (b *broker) kill() {
	_ = b.cmd.Process.Kill()
	_ = b.cmd.Wait()
}

func open(t *testing.T, c Config) *sender {
	t.Helper()
	s, err := New(c)(notify.Setup{ID: "mq", Site: "plant-a", Engine: "e"})
	require.NoError(t, err)
	t.Cleanup(func() { _ = s.(*sender).Close() })
	return s.(*sender)
}

// listen subscribes with a client that is not ours.
func listen(t *testing.T, b *broker) <-chan string {
	t.Helper()
	host, port, err := net.SplitHostPort(b.addr)
	require.NoError(t, err)
	cmd := exec.Command(tool(t, "mosquitto_sub"), "-h", host, "-p", port, "-t", "#", "-q", "1", "-v")
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	lines, ready := make(chan string, 100), make(chan struct{})
	read := make(chan struct{})
	go func() {
		defer close(read)
		began := sync.OnceFunc(func() { close(ready) })
		s := bufio.NewScanner(out)
		s.Buffer(nil, 1<<20)
		for s.Scan() {
			if strings.HasPrefix(s.Text(), "probe ") {
				began()
				continue
			}
			lines <- s.Text()
		}
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-read
		_ = cmd.Wait()
	})
	// It says nothing when it has subscribed: messages are sent until one arrives.
	probe := open(t, Config{Broker: "mqtt://" + b.addr, Topic: "probe", ClientID: "probe"})
	require.Eventually(t, func() bool {
		if probe.Send(t.Context(), notify.Message{}) != nil {
			return false
		}
		select {
		case <-ready:
			return true
		default:
			return false
		}
	}, time.Minute, 10*time.Millisecond, "mosquitto_sub does not subscribe")
	return lines
}

func TestPublish(t *testing.T) {
	t.Parallel()
	b := startBroker(t, false)
	lines := listen(t, b)
	s := open(t, Config{Broker: "mqtt://" + b.addr, Topic: "voltage/{site}/{severity}/{model}"})
	m := notify.Samples()[0]
	m.Model, m.Message = "a/+#b", "温度过高"
	for range 3 {
		require.NoError(t, s.Send(t.Context(), m))
		topic, body, _ := strings.Cut(<-lines, " {")
		require.Equal(t, "voltage/plant-a/critical/a___b", topic)
		var got notify.Message
		require.NoError(t, json.Unmarshal([]byte("{"+body), &got))
		require.Equal(t, m, got)
	}
	require.Equal(t, uint16(3), s.number)
	m.Text = strings.Repeat("x", 300_000) // a length of three bytes
	require.NoError(t, s.Send(t.Context(), m))
	require.Greater(t, len(<-lines), 300_000)
	// the broker goes and comes again
	b.kill()
	require.Error(t, s.Send(t.Context(), m))
	b.start(t)
	require.NoError(t, s.Send(t.Context(), m))
	// a connection that was lost unnoticed is made anew within the attempt
	b.kill()
	b.start(t)
	require.NoError(t, s.Send(t.Context(), m))
	require.NoError(t, s.Close())
	require.NoError(t, s.Send(t.Context(), m), "closed is only the connection")
}

func TestPublishTLS(t *testing.T) {
	t.Parallel()
	b := startBroker(t, true)
	own := b.ca.Issue(t, testcert.Spec{Name: "voltage"})
	files := notify.TLS{CAFile: channel.Path(b.ca.File), CertFile: channel.Path(own.CertFile), KeyFile: channel.Path(own.KeyFile)}
	require.NoError(t, open(t, Config{Broker: "mqtts://" + b.addr, Topic: "a", TLS: files}).Send(t.Context(), notify.Samples()[0]))
	require.Error(t, open(t, Config{Broker: "mqtts://" + b.addr, Topic: "a", TLS: notify.TLS{CAFile: files.CAFile}}).Send(t.Context(), notify.Samples()[0]), "without a certificate")
	require.ErrorContains(t, open(t, Config{Broker: "mqtts://" + b.addr, Topic: "a"}).Send(t.Context(), notify.Samples()[0]), "certificate")
}

// fake is a broker that answers each packet as f says, and hangs up after nil.
func fake(t *testing.T, f func(packets.ControlPacket) []byte) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	var work sync.WaitGroup
	work.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			work.Go(func() {
				defer c.Close()
				for {
					p, err := packets.ReadPacket(c)
					if err != nil {
						return
					}
					answer := f(p)
					if answer == nil {
						return
					}
					if _, err := c.Write(answer); err != nil {
						return
					}
				}
			})
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		work.Wait()
	})
	return "mqtt://" + l.Addr().String()
}

// The beginnings of packets.
const (
	connAck byte = packets.Connack << 4
	pubAck  byte = packets.Puback << 4
	publish byte = packets.Publish << 4
)

func TestBrokersThatMisbehave(t *testing.T) {
	t.Parallel()
	accepts := []byte{connAck, 2, 0, 0}
	wait := "waiting for the acknowledgement: "
	for _, c := range []struct {
		want             string
		connect, publish []byte
	}{
		{"refuses the connection: bad user name or password", []byte{connAck, 2, 0, 4}, nil},
		{"refuses the connection with code 99", []byte{connAck, 2, 0, 99}, nil},
		{"something else than a CONNACK", []byte{pubAck, 2, 0, 1}, nil},
		{"a CONNACK of 0 bytes", []byte{connAck, 0}, nil},
		{"a packet of 268435455 bytes", []byte{connAck, 0xff, 0xff, 0xff, 0x7f}, nil},
		{"a packet of 268435455 bytes", []byte{publish, 0xff, 0xff, 0xff, 0x7f}, nil},
		{"whose length cannot be", []byte{connAck, 0xff, 0xff, 0xff, 0xff, 0xff}, nil},
		{"a packet of type 5, which", []byte("SSH-2.0-OpenSSH\r\n"), nil},
		{"a PUBACK of 84 bytes", []byte("HTTP/1.1 400 Bad Request\r\n"), nil},
		{wait, accepts, nil}, // it hangs up: EOF, or a connection reset
		{wait + "the broker sent a packet of 2097151 bytes", accepts, []byte{pubAck, 0xff, 0xff, 0x7f}},
		{wait + "the broker sent a PUBACK of 1 bytes", accepts, []byte{pubAck, 1, 0}},
		{wait + "the broker sent a packet of type 9", accepts, []byte{packets.Suback << 4, 3, 0, 1, 1}},
	} {
		s := open(t, Config{Topic: "a", Broker: fake(t, func(p packets.ControlPacket) []byte {
			if _, ok := p.(*packets.ConnectPacket); ok {
				return c.connect
			}
			return c.publish
		})})
		require.ErrorContains(t, s.Send(t.Context(), notify.Message{ID: "1"}), c.want)
		require.Nil(t, s.conn)
	}
}

// Delivered is what the broker acknowledges, not another's acknowledgement and not
// silence.
func TestAcknowledgement(t *testing.T) {
	t.Parallel()
	seen := make(chan *packets.PublishPacket, 2)
	s := open(t, Config{Topic: "a", Username: "u", Password: "p", ClientID: "c", Retain: true, Broker: fake(t, func(p packets.ControlPacket) []byte {
		switch p := p.(type) {
		case *packets.ConnectPacket:
			if p.Username != "u" || string(p.Password) != "p" || p.ClientIdentifier != "c" || !p.CleanSession || p.Keepalive != 60 || p.ProtocolName != "MQTT" || p.ProtocolVersion != 4 {
				return []byte{connAck, 2, 0, 5}
			}
			return []byte{connAck, 2, 0, 0}
		case *packets.PublishPacket:
			seen <- p
			// a message to nobody, the acknowledgement of another, and the right one
			return []byte{publish, 4, 0, 1, 'x', 'y', pubAck, 2, 9, 9, pubAck, 2, 0, byte(p.MessageID)}
		}
		return nil
	})})
	for i := range uint16(2) {
		require.NoError(t, s.Send(t.Context(), notify.Message{ID: "1"}))
		p := <-seen
		require.Equal(t, []any{byte(1), true, "a", i + 1}, []any{p.Qos, p.Retain, p.TopicName, p.MessageID})
	}

	for name, silent := range map[string][]byte{"after the connect": nil, "after the message": {connAck, 2, 0, 0}} {
		ctx, cancel := context.WithCancel(t.Context())
		s := open(t, Config{Topic: "a", Broker: fake(t, func(p packets.ControlPacket) []byte {
			if _, ok := p.(*packets.ConnectPacket); ok && silent != nil {
				return silent
			}
			cancel()
			return []byte{}
		})})
		require.ErrorIs(t, s.Send(ctx, notify.Message{}), context.Canceled, name)
		require.Nil(t, s.conn, name)
	}
}

func TestSettings(t *testing.T) {
	t.Parallel()
	for want, c := range map[string]Config{
		"broker: want": {Topic: "a"}, "broker: ": {Broker: "http://a", Topic: "a"}, "broker:": {Broker: "mqtt://a:b@c", Topic: "a"}, "topic: missing": {Broker: "mqtt://a"},
		`topic "a/#"`: {Broker: "mqtt://a", Topic: "a/#"}, "username: missing": {Broker: "mqtt://a", Topic: "a", Password: "x"}, "tls: the broker": {Broker: "mqtt://a", Topic: "a", TLS: notify.TLS{ServerName: "x"}},
		"ca_file": {Broker: "mqtts://a", Topic: "a", TLS: notify.TLS{CAFile: "/nowhere"}}, "client_id: 300": {Broker: "mqtt://a", Topic: "a", ClientID: strings.Repeat("x", 300)},
	} {
		_, err := New(c)(notify.Setup{})
		require.ErrorIs(t, err, model.ErrInvalid, want)
		require.ErrorContains(t, err, want)
	}
	require.Equal(t, "voltage-plant-a-e-mq", open(t, Config{Broker: "mqtt://a", Topic: "a"}).ClientID)
}

func FuzzReadAnswer(f *testing.F) {
	f.Add([]byte{connAck, 2, 0, 0})
	f.Add([]byte{publish, 0x80, 0x01})
	f.Add([]byte{publish, 1, 0, pubAck, 2, 0, 1})
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 0x7f})
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := readAnswer(bufio.NewReader(bytes.NewReader(b)))
		if err != nil {
			return
		}
		_ = accepted(p)
		var again bytes.Buffer
		require.NoError(t, p.Write(&again))
		require.True(t, bytes.Contains(b, again.Bytes()[3:]), "it was sent")
		same, err := readAnswer(bufio.NewReader(&again))
		require.NoError(t, err)
		require.Equal(t, p, same)
	})
}
