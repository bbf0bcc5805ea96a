package modbus

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"

	"github.com/voltageems/voltage/channel"
	"github.com/voltageems/voltage/internal/testcert"
	"github.com/voltageems/voltage/model"
)

// newSecurity returns what a device on this machine needs for TLS, and a client
// that it accepts.
func newSecurity(t testing.TB) (*tls.Config, TLSConfig) {
	t.Helper()
	ca := testcert.NewCA(t)
	device, client := ca.Issue(t, testcert.Spec{Hosts: []string{"127.0.0.1"}}), ca.Issue(t, testcert.Spec{})
	return &tls.Config{Certificates: []tls.Certificate{device.Certificate}, ClientCAs: ca.Pool},
		TLSConfig{CAFile: ca.File, CertFile: client.CertFile, KeyFile: client.KeyFile}
}

var versions = []uint16{tls.VersionTLS12, tls.VersionTLS13}

func TestTLS(t *testing.T) {
	t.Parallel()
	for _, version := range versions {
		secure, files := newSecurity(t)
		secure.MaxVersion = version
		dev := startDevice(t, &device{tls: secure}, 1, 2)
		bus := NewTLSBus(dev.address, files)
		one := connected(t, bus.Unit(1), setup(point("a", "holding:1"), control("w", "holding:150")))
		two := connected(t, bus.Unit(2), setup(point("b", "coil:1")))
		for range 3 {
			assert.Equal(t, good("a", 1), read(t, one)["a"])
			assert.Equal(t, good("b", 1), read(t, two)["b"])
			out, err := write(one, "w", 7)
			require.NoError(t, err)
			assert.Equal(t, channel.Done, out.Result)
		}
		assert.EqualValues(t, 1, dev.srv.Stats().Accepted)
	}
}

// What is wrong with a certificate is said, at Connect or, where a device that
// speaks TLS 1.3 judges the client later, at the first request.
func TestTLSErrors(t *testing.T) {
	t.Parallel()
	ca, other := testcert.NewCA(t), testcert.NewCA(t)
	here := []string{"127.0.0.1", "pcs1"}
	own, client := ca.Issue(t, testcert.Spec{Hosts: here}), ca.Issue(t, testcert.Spec{})
	files := func(ca *testcert.CA, c testcert.Cert, name string) TLSConfig {
		return TLSConfig{CAFile: ca.File, CertFile: c.CertFile, KeyFile: c.KeyFile, ServerName: name}
	}
	good := files(ca, client, "")
	for name, c := range map[string]struct {
		cert   testcert.Cert
		client TLSConfig
		text   string // empty where it works
	}{
		"good":                  {own, good, ""},
		"good by name":          {own, files(ca, client, "pcs1"), ""},
		"expired":               {ca.Issue(t, testcert.Spec{Hosts: here, Expired: true}), good, "certificate has expired or is not yet valid"},
		"unknown authority":     {other.Issue(t, testcert.Spec{Hosts: here}), good, "signed by unknown authority"},
		"authority of nobody":   {own, TLSConfig{CertFile: client.CertFile, KeyFile: client.KeyFile}, "signed by unknown authority"},
		"wrong name":            {own, files(ca, client, "pcs2"), "certificate is valid for pcs1, not pcs2"},
		"wrong address":         {ca.Issue(t, testcert.Spec{Hosts: []string{"10.0.0.1"}}), good, "certificate is valid for 10.0.0.1, not 127.0.0.1"},
		"no client certificate": {own, TLSConfig{CAFile: ca.File}, "wants a client certificate, and no cert file is set"},
		"expired client":        {own, files(ca, ca.Issue(t, testcert.Spec{Expired: true}), ""), "refuses this client's certificate"},
		"client nobody knows":   {own, files(ca, other.Issue(t, testcert.Spec{}), ""), "refuses this client's certificate"},
	} {
		for _, version := range versions {
			t.Run(name+" "+tls.VersionName(version), func(t *testing.T) {
				t.Parallel()
				dev := startDevice(t, &device{tls: &tls.Config{Certificates: []tls.Certificate{c.cert.Certificate}, ClientCAs: ca.Pool, MaxVersion: version}}, 1)
				d := open(t, TLS(dev.address, c.client), setup(point("a", "holding:1")))
				err := d.Connect(context.Background())
				if err == nil {
					_, err = d.Read(context.Background())
				}
				if c.text == "" {
					require.NoError(t, err)
					return
				}
				require.ErrorIs(t, err, channel.ErrNotConnected)
				require.ErrorContains(t, err, c.text)
				assert.NotErrorIs(t, err, model.ErrInvalid)
				assert.Empty(t, dev.requests())
			})
		}
	}
}

func TestTLSHandshakeIsBounded(t *testing.T) {
	t.Parallel()
	_, files := newSecurity(t)
	greeted := make(chan struct{}, 2)
	silent := script(t, func(c net.Conn) {
		_, _ = c.Read(make([]byte, 1))
		greeted <- struct{}{}
		_, _ = io.Copy(io.Discard, c)
	})
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() { <-greeted; cancel() }()
	err := open(t, TLS(silent, files, ConnectTimeout(time.Hour)), setup()).Connect(ctx)
	require.ErrorIs(t, err, context.Canceled)
	require.ErrorContains(t, err, "TLS handshake")
	err = open(t, TLS(silent, files, ConnectTimeout(50*time.Millisecond)), setup()).Connect(context.Background())
	require.ErrorIs(t, err, channel.ErrNotConnected)

	plain := newDevice(t, 1) // it takes the greeting for a frame that is none, and hangs up
	err = open(t, TLS(plain.address, files), setup()).Connect(context.Background())
	require.ErrorIs(t, err, channel.ErrNotConnected)
	require.ErrorContains(t, err, "TLS handshake")
	secure, _ := newSecurity(t)
	dev := startDevice(t, &device{tls: secure}, 1)
	d := connected(t, TCP(dev.address), setup(point("a", "holding:1"))) // and the other way round
	_, err = d.Read(context.Background())
	require.ErrorIs(t, err, channel.ErrNotConnected)
}

// A device that says goodbye while nobody asks leaves no doubt about a command:
// its farewell lies on the connection and is no answer.
func TestTLSClosedWhileIdleIsNotSent(t *testing.T) {
	t.Parallel()
	for _, version := range versions {
		for name, end := range map[string]func(*tls.Conn){
			"goodbye":     func(c *tls.Conn) { _ = c.Close() },
			"only closed": func(c *tls.Conn) { _ = c.NetConn().Close() },
		} {
			secure, files := newSecurity(t)
			secure.MaxVersion = version
			leave := make(chan struct{})
			address := script(t, func(raw net.Conn) {
				c := tls.Server(raw, secure)
				if c.Handshake() == nil {
					<-leave
					end(c)
				}
			})
			d := connected(t, TLS(address, files), setup(control("w", "holding:9")))
			secured := d.line.conn.(*conn).Conn.(*tlsConn)
			assert.True(t, secured.alive(), name)
			assert.True(t, secured.alive(), "%s, with session tickets read", name)
			close(leave)
			// The end is on its way over loopback.
			require.Eventually(t, func() bool { return !secured.alive() }, 10*time.Second, time.Millisecond, name)
			out, err := write(d, "w", 1)
			require.ErrorIs(t, err, channel.ErrNotConnected, name)
			assert.Equal(t, channel.Outcome{}, out, name)
		}
	}
}

// An answer that comes too late, while nobody reads, is found and kept by the
// look whether the device is there; the connection goes on.
func TestTLSLateAnswer(t *testing.T) {
	t.Parallel()
	for _, version := range versions {
		secure, files := newSecurity(t)
		secure.MaxVersion = version
		came, late, sent := make(chan struct{}), make(chan struct{}), make(chan struct{})
		address := script(t, func(raw net.Conn) {
			c := tls.Server(raw, secure)
			first := request(c)
			close(came)
			<-late
			_, _ = c.Write(answer(first, 99))
			close(sent)
			for q := request(c); q != nil; q = request(c) {
				if q[7] == 3 {
					_, _ = c.Write(answer(q, 5))
				} else {
					_, _ = c.Write(q) // an echo
				}
			}
		})
		d := connected(t, TLS(address, files), setup(point("a", "holding:1"), control("w", "holding:200")))
		ctx, cancel := context.WithCancel(context.Background())
		go func() { <-came; cancel() }()
		_, err := d.Read(ctx)
		require.ErrorIs(t, err, context.Canceled)
		close(late)
		<-sent
		out, err := write(d, "w", 5)
		require.NoError(t, err)
		assert.Equal(t, channel.Done, out.Result)
		for seen := false; !seen; {
			samples, err := d.Read(context.Background())
			require.NoError(t, err)
			for _, got := range samples {
				require.Equal(t, good(got.Point, 5), got)
				seen = seen || got.Point == "a"
			}
		}
	}
}

// A peer that sends without end is not read without end.
func TestTLSAheadIsBounded(t *testing.T) {
	t.Parallel()
	secure, files := newSecurity(t)
	address := script(t, func(raw net.Conn) {
		c := tls.Server(raw, secure)
		for {
			if _, err := c.Write(make([]byte, 1000)); err != nil {
				return
			}
		}
	})
	d := connected(t, TLS(address, files), setup(control("w", "holding:9")))
	secured := d.line.conn.(*conn).Conn.(*tlsConn)
	for range 100 {
		assert.True(t, secured.alive())
	}
	assert.Less(t, len(secured.ahead), maxAhead+512)
	out, err := write(d, "w", 1)
	require.ErrorIs(t, err, channel.ErrNotConnected, "it is no Modbus")
	assert.Equal(t, channel.Sent, out.Result)
	require.NoError(t, d.Close(context.Background()))
}

// Files are read at each connect.
func TestTLSRenewedCertificate(t *testing.T) {
	t.Parallel()
	secure, files := newSecurity(t)
	dev := startDevice(t, &device{tls: secure}, 1)
	d := connected(t, TLS(dev.address, files), setup(point("a", "holding:1")))
	assert.Equal(t, good("a", 1), read(t, d)["a"])
	dev.stop()
	var renewed TLSConfig
	dev.tls, renewed = newSecurity(t)
	dev.start()
	require.NoError(t, d.Close(context.Background()))
	require.ErrorIs(t, d.Connect(context.Background()), channel.ErrNotConnected)
	for from, to := range map[string]string{renewed.CAFile: files.CAFile, renewed.CertFile: files.CertFile, renewed.KeyFile: files.KeyFile} {
		require.NoError(t, os.Rename(from, to))
	}
	require.NoError(t, d.Connect(context.Background()))
	assert.Equal(t, good("a", 1), read(t, d)["a"])
	require.NoError(t, os.Remove(files.KeyFile))
	require.NoError(t, d.Close(context.Background()))
	err := d.Connect(context.Background())
	require.ErrorIs(t, err, channel.ErrNotConnected)
	require.ErrorContains(t, err, files.KeyFile)
}

func TestTLSConfigErrors(t *testing.T) {
	t.Parallel()
	_, files := newSecurity(t)
	_, others := newSecurity(t)
	folder := t.TempDir()
	garbage, none := filepath.Join(folder, "garbage.pem"), filepath.Join(folder, "none.pem")
	require.NoError(t, os.WriteFile(garbage, []byte("garbage"), 0o600))
	for name, c := range map[string]struct {
		change func(*TLSConfig)
		want   string
	}{
		"no authority":   {func(c *TLSConfig) { c.CAFile = none }, "ca file: stat " + none + ": no such file"},
		"no certificate": {func(c *TLSConfig) { c.CertFile = none }, "cert file: stat " + none},
		"no key":         {func(c *TLSConfig) { c.KeyFile = none }, "key file: stat " + none},
		"garbage":        {func(c *TLSConfig) { c.CAFile = garbage }, "ca file: " + garbage + ": holds no certificate"},
		"key of another": {func(c *TLSConfig) { c.KeyFile = others.KeyFile }, "cert file: " + files.CertFile + " with key file " + others.KeyFile + ": tls: private key does not match"},
		"key is garbage": {func(c *TLSConfig) { c.KeyFile = garbage }, garbage},
		"folder":         {func(c *TLSConfig) { c.CAFile = folder }, folder + ": want a file"},
		"device":         {func(c *TLSConfig) { c.CAFile = "/dev/zero" }, "want a file"},
		"key missing":    {func(c *TLSConfig) { c.KeyFile = "" }, "key file: missing"},
		"cert missing":   {func(c *TLSConfig) { c.CertFile = "" }, "cert file: missing"},
	} {
		cfg := files
		c.change(&cfg)
		_, err := TLS("host", cfg)(setup())
		require.ErrorIs(t, err, model.ErrInvalid, name)
		require.ErrorContains(t, err, c.want, name)
	}
	_, err := TLS("host:0", files)(setup())
	require.ErrorContains(t, err, "the port is not a number")
	_, err = TLS("host", TLSConfig{})(setup())
	require.NoError(t, err)
	assert.Equal(t, "host:802", NewTLSBus("host", files).line.name)
}

func TestTLSKind(t *testing.T) {
	t.Parallel()
	_, files := newSecurity(t)
	k := TLSKind()
	assert.Equal(t, "modbus-tls", k.Name)
	section := func(extra string) string {
		return "{address: host, ca_file: " + files.CAFile + ", cert_file: " + files.CertFile + ", key_file: " + files.KeyFile + extra + "}"
	}
	made := func(text string) *driver {
		f, err := k.Open(func(to any) error { return yaml.Unmarshal([]byte(text), to) })
		require.NoError(t, err)
		return open(t, f, setup())
	}
	one := made(section(", unit: 1"))
	assert.Equal(t, "host:802", one.line.name)
	assert.Equal(t, files, one.opts.line.tls)
	assert.Same(t, one.line, made(section(", unit: 2")).line)
	assert.NotSame(t, one.line, made(section(", server_name: pcs1")).line, "another name is another device")
	assert.NotSame(t, one.line, made(section(", exclusive: true")).line)
	_, err := k.Open(func(to any) error { return yaml.Unmarshal([]byte("{address: host, ca_file: /none}"), to) })
	require.ErrorIs(t, err, model.ErrInvalid)
	require.ErrorContains(t, err, "ca file: stat /none")
	_, err = NewTLSBus("host", files).Unit(1, Delay(time.Second))(setup())
	require.ErrorContains(t, err, "belong to the bus")
	_, err = NewTLSBus("host", files).Unit(1, MaxRead(9))(setup())
	require.NoError(t, err)
}
