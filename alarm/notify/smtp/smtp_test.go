package smtp_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/voltageems/voltage/alarm/notify"
	"github.com/voltageems/voltage/alarm/notify/smtp"
	"github.com/voltageems/voltage/channel"
	"github.com/voltageems/voltage/internal/testcert"
	"github.com/voltageems/voltage/model"
)

// python returns the Python that has aiosmtpd: Debian's, which need not be the
// first on PATH.
func python(t *testing.T) string {
	t.Helper()
	for _, name := range []string{"/usr/bin/python3", "python3"} {
		if exec.Command(name, "-c", "import aiosmtpd").Run() == nil {
			return name
		}
	}
	if os.Getenv("VOLTAGE_CI") == "1" {
		t.Fatal("no python3 here has aiosmtpd, and VOLTAGE_CI is set")
	}
	t.Skip("no python3 here has aiosmtpd")
	return ""
}

// mail is what the server got.
type mail struct {
	Port                    int
	From, Subject, ID, Body string
	To                      []string
	HeaderTo                string `json:"header_to"`
	Auto                    string
	TLS, Login, ASCII       bool
}

// server is a mail server of one test.
type server struct {
	t      *testing.T
	folder string
	ca     *testcert.CA
	addr   string
	lines  chan mail
}

func serve(t *testing.T, security smtp.Security) *server {
	t.Helper()
	s := &server{t: t, folder: t.TempDir(), ca: testcert.NewCA(t), lines: make(chan mail, 100)}
	cert := s.ca.Issue(t, testcert.Spec{Hosts: []string{"127.0.0.1"}})
	cmd := exec.Command(python(t), "testdata/server.py", s.folder, string(security), cert.CertFile, cert.KeyFile)
	in, err := cmd.StdinPipe()
	require.NoError(t, err)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	cmd.Stderr = t.Output()
	require.NoError(t, cmd.Start())
	read := make(chan struct{})
	go func() {
		defer close(read)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			var m mail
			if json.Unmarshal(lines.Bytes(), &m) == nil {
				s.lines <- m
			}
		}
		close(s.lines)
	}()
	t.Cleanup(func() {
		_ = in.Close()
		<-read
		_ = cmd.Wait()
	})
	s.addr = fmt.Sprintf("127.0.0.1:%d", s.next().Port)
	return s
}

func (s *server) next() mail {
	s.t.Helper()
	select {
	case m, ok := <-s.lines:
		require.True(s.t, ok, "the mail server has ended")
		return m
	case <-time.After(time.Minute):
		s.t.Fatal("no mail")
	}
	return mail{}
}

// none checks that no mail came that was not looked at.
func (s *server) none() {
	s.t.Helper()
	select {
	case m := <-s.lines:
		s.t.Fatalf("a mail that was not to come: %+v", m)
	default:
	}
}

func open(t *testing.T, c smtp.Config) notify.Sender {
	t.Helper()
	s, err := smtp.New(c)(notify.Setup{ID: "mail", Site: "plant-a"})
	require.NoError(t, err)
	return s
}

func message() notify.Message {
	m := notify.Samples()[0]
	m.Subject, m.Text = "[紧急] 电池温度过高: "+strings.Repeat("很长的主题 ", 20), "温度 61.2 °C\n.\n.行首的点\n"+strings.Repeat("x", 300)+"\n"
	return m
}

func TestMail(t *testing.T) {
	t.Parallel()
	for _, security := range []smtp.Security{smtp.None, smtp.StartTLS, smtp.TLS} {
		t.Run(string(security), func(t *testing.T) {
			t.Parallel()
			s := serve(t, security)
			c := smtp.Config{Server: s.addr, Security: security, Username: "user", Password: "password", From: "Anlage A <voltage@example.com>",
				To: []string{"a@example.com", "Dienst Öst <b@example.com>"}}
			if security != smtp.None {
				c.TLS = notify.TLS{CAFile: channel.Path(s.ca.File)}
			}
			target, m := open(t, c), message()
			require.NoError(t, target.Send(t.Context(), m))
			first, second := s.next(), s.next()
			require.Equal(t, mail{From: "voltage@example.com", To: []string{"a@example.com"}, HeaderTo: "a@example.com", Subject: strings.TrimSpace(m.Subject), ID: first.ID, Auto: "auto-generated",
				Body: m.Text, TLS: security != smtp.None, Login: true, ASCII: true}, clean(first))
			require.Equal(t, []string{"b@example.com"}, second.To)
			require.NotEqual(t, first.ID, second.ID)
			require.NoError(t, target.Send(t.Context(), m))
			require.Equal(t, first.ID, s.next().ID, "the same Message-ID when it is sent again")
			require.Equal(t, second.ID, s.next().ID)

			c.Password = "wrong"
			err := open(t, c).Send(t.Context(), m)
			require.Error(t, err)
			require.NotErrorIs(t, err, notify.ErrPermanent, "a password can be put right")
			require.NotContains(t, err.Error(), "wrong")
			if security != smtp.None {
				c.TLS = notify.TLS{}
				require.ErrorContains(t, open(t, c).Send(t.Context(), m), "certificate")
			}
			s.none()
		})
	}
}

// clean takes the forms apart that libraries differ in.
func clean(m mail) mail {
	m.Port = 0
	m.HeaderTo = strings.Trim(m.HeaderTo, "<>")
	m.Body = strings.ReplaceAll(m.Body, "\r\n", "\n")
	m.Subject = strings.Join(strings.Fields(m.Subject), " ")
	return m
}

func TestMailRefusals(t *testing.T) {
	t.Parallel()
	s := serve(t, smtp.None)
	c := smtp.Config{Server: s.addr, Security: smtp.None, From: "a@example.com", To: []string{"a@example.com", "later@example.com"}}
	target := open(t, c)
	err := target.Send(t.Context(), message())
	require.ErrorContains(t, err, "451")
	require.NotErrorIs(t, err, notify.ErrPermanent)
	require.Equal(t, []string{"a@example.com"}, s.next().To, "one that is refused costs no other")
	require.ErrorContains(t, target.Send(t.Context(), message()), "451")
	s.none() // the first has it already

	c.To = []string{"no@example.com", "a@example.com"}
	err = open(t, c).Send(t.Context(), message())
	require.ErrorIs(t, err, notify.ErrPermanent)
	require.ErrorContains(t, err, "no@example.com")
	require.Equal(t, []string{"a@example.com"}, s.next().To)

	c.To = []string{"a@example.com"}
	for answer, permanent := range map[string]bool{"554 5.7.1 spam": true, "452 4.3.1 full": false} {
		require.NoError(t, os.WriteFile(filepath.Join(s.folder, "data"), []byte(answer), 0o600))
		err = open(t, c).Send(t.Context(), message())
		require.ErrorContains(t, err, answer[:3])
		if permanent {
			require.ErrorIs(t, err, notify.ErrPermanent)
		} else {
			require.NotErrorIs(t, err, notify.ErrPermanent)
		}
	}
	s.none()
}

// A server that says nothing holds up nothing for longer than it may.
func TestMailServerThatHangs(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		cancel()
		_, _ = c.Read(make([]byte, 1)) // until the client gives up
	}()
	require.Error(t, open(t, smtp.Config{Server: l.Addr().String(), Security: smtp.None, From: "a@b.c", To: []string{"a@b.c"}}).Send(ctx, message()))
}

func TestMailSettings(t *testing.T) {
	t.Parallel()
	good := smtp.Config{Server: "mail.example.com", From: "a@example.com", To: []string{"b@example.com"}}
	for want, change := range map[string]func(*smtp.Config){
		"server: missing": func(c *smtp.Config) { c.Server = "" }, "server \"a:b\"": func(c *smtp.Config) { c.Server = "a:b" }, "security \"ssl\"": func(c *smtp.Config) { c.Security = "ssl" },
		"to: 0 recipients": func(c *smtp.Config) { c.To = nil }, "to \"x\"": func(c *smtp.Config) { c.To = []string{"x"} }, "from \"x\"": func(c *smtp.Config) { c.From = "x" },
		"username and password": func(c *smtp.Config) { c.Username = "x" }, "tls: there is no TLS": func(c *smtp.Config) { c.Security, c.TLS.ServerName = smtp.None, "x" },
		"security none: with a password": func(c *smtp.Config) { c.Security, c.Username, c.Password = smtp.None, "x", "y" },
		"ca_file":                        func(c *smtp.Config) { c.TLS.CAFile = "/nowhere" },
	} {
		c := good
		change(&c)
		_, err := smtp.New(c)(notify.Setup{})
		require.ErrorIs(t, err, model.ErrInvalid, want)
		require.ErrorContains(t, err, want)
	}
}
