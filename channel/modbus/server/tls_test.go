package server

import (
	"context"
	"crypto/tls"
	"crypto/x509/pkix"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/voltageems/voltage/internal/testcert"
)

// witness notes who reads.
type witness struct {
	Memory
	peers chan Peer
}

func (w *witness) ReadRegisters(ctx context.Context, table Table, address uint16, dst []uint16) error {
	w.peers <- PeerFrom(ctx)
	return w.Memory.ReadRegisters(ctx, table, address, dst)
}

func newWitness() *witness {
	w := &witness{peers: make(chan Peer, 8)}
	w.SetRegisters(InputRegister, 8, 10)
	return w
}

// secure dials with TLS, without doing the handshake yet.
func secure(t *testing.T, addr string, c *tls.Config) net.Conn {
	t.Helper()
	return tls.Client(dial(t, addr), c)
}

func TestTLSPeer(t *testing.T) {
	t.Parallel()
	ca := testcert.NewCA(t)
	own := ca.Issue(t, testcert.Spec{Hosts: []string{"gateway"}})
	for name, cfg := range map[string]*tls.Config{
		"certificate": {Certificates: []tls.Certificate{own.Certificate}, ClientCAs: ca.Pool},
		"for client": {GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
			return &tls.Config{Certificates: []tls.Certificate{own.Certificate}, ClientCAs: ca.Pool}, nil
		}},
	} {
		for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
			t.Run(name+" "+tls.VersionName(version), func(t *testing.T) {
				t.Parallel()
				w := newWitness()
				_, addr := start(t, Config{Units: map[byte]Handler{1: w}, TLS: cfg})
				for role, spec := range map[string]testcert.Spec{"Betreiber Süd": {Name: "scada", Role: "Betreiber Süd"}, "": {Name: "meter"}} {
					client := ca.Issue(t, spec)
					c := secure(t, addr, &tls.Config{RootCAs: ca.Pool, ServerName: "gateway", MaxVersion: version, Certificates: []tls.Certificate{client.Certificate}})
					send(t, c, ask)
					expect(t, c, answer)
					p := <-w.peers
					assert.Equal(t, Peer{Addr: c.LocalAddr(), Role: role, CommonName: spec.Name}, p)
				}
			})
		}
	}
}

func TestPeerWithoutTLS(t *testing.T) {
	t.Parallel()
	w := newWitness()
	s, addr := start(t, Config{Units: map[byte]Handler{1: w}})
	c := dial(t, addr)
	send(t, c, ask)
	expect(t, c, answer)
	assert.Equal(t, Peer{Addr: c.LocalAddr()}, <-w.peers)

	near, far := net.Pipe()
	served := make(chan error, 1)
	go func() { served <- s.ServeRTU(far) }()
	_, err := near.Write(rtuFrame(1, 4, 0, 8, 0, 1))
	require.NoError(t, err)
	assert.Equal(t, Peer{Serial: true}, <-w.peers)
	require.NoError(t, near.Close())
	<-served
	assert.Zero(t, PeerFrom(context.Background()))
}

// What is not as it should be is turned away, and harms no one else.
func TestTLSTurnsAway(t *testing.T) {
	t.Parallel()
	ca, other := testcert.NewCA(t), testcert.NewCA(t)
	own := ca.Issue(t, testcert.Spec{Hosts: []string{"gateway"}})
	s, addr := start(t, Config{Units: map[byte]Handler{1: specimen()}, TLS: &tls.Config{Certificates: []tls.Certificate{own.Certificate}, ClientCAs: ca.Pool}})
	good := ca.Issue(t, testcert.Spec{})
	config := func(c ...testcert.Cert) *tls.Config {
		cfg := &tls.Config{RootCAs: ca.Pool, ServerName: "gateway"}
		for _, c := range c {
			cfg.Certificates = append(cfg.Certificates, c.Certificate)
		}
		return cfg
	}
	old := config(good)
	old.MinVersion, old.MaxVersion = tls.VersionTLS10, tls.VersionTLS11
	badRole := pkix.Extension{Id: testcert.RoleID, Value: []byte{19, 1, 'a'}} // a PrintableString
	denied := int64(0)
	for name, cfg := range map[string]*tls.Config{
		"no certificate":    config(),
		"unknown authority": config(other.Issue(t, testcert.Spec{Role: "admin"})),
		"expired":           config(ca.Issue(t, testcert.Spec{Expired: true})),
		"TLS 1.1":           old,
		"bad role":          config(ca.Issue(t, testcert.Spec{Extensions: []pkix.Extension{badRole}})),
	} {
		c := secure(t, addr, cfg)
		_, err := c.Write(unhex(t, ask))
		if err == nil { // the client learns of it when it reads
			_, err = c.Read(make([]byte, 1))
		}
		require.Error(t, err, name)
		denied++
		require.Eventually(t, func() bool { return s.Stats().Denied == denied }, patience, time.Millisecond, name)
	}
	plain := dial(t, addr)
	send(t, plain, ask)
	_, _ = io.Copy(io.Discard, plain) // an alert, perhaps, and the end
	require.Eventually(t, func() bool { return s.Stats().Denied == denied+1 }, patience, time.Millisecond)
	assert.Zero(t, s.Stats().Requests)

	c := secure(t, addr, config(good))
	send(t, c, ask)
	expect(t, c, answer)
}

// A certificate that nobody verified gives no role.
func TestUnverifiedCertificateHasNoRole(t *testing.T) {
	t.Parallel()
	ca, other := testcert.NewCA(t), testcert.NewCA(t)
	own := ca.Issue(t, testcert.Spec{Hosts: []string{"gateway"}})
	for _, auth := range []tls.ClientAuthType{tls.RequestClientCert, tls.RequireAnyClientCert} {
		w := newWitness()
		_, addr := start(t, Config{Units: map[byte]Handler{1: w}, TLS: &tls.Config{Certificates: []tls.Certificate{own.Certificate}, ClientCAs: ca.Pool, ClientAuth: auth}})
		forged := other.Issue(t, testcert.Spec{Name: "scada", Role: "admin"})
		c := secure(t, addr, &tls.Config{RootCAs: ca.Pool, ServerName: "gateway", Certificates: []tls.Certificate{forged.Certificate}})
		send(t, c, ask)
		expect(t, c, answer)
		assert.Equal(t, Peer{Addr: c.LocalAddr()}, <-w.peers)
	}
}

// A client that does not go on with its handshake holds a place, until its time
// is over, and nothing else.
func TestTLSSlowHandshake(t *testing.T) {
	t.Parallel()
	ca := testcert.NewCA(t)
	own := ca.Issue(t, testcert.Spec{Hosts: []string{"gateway"}})
	server := &tls.Config{Certificates: []tls.Certificate{own.Certificate}, ClientCAs: ca.Pool}
	client := &tls.Config{RootCAs: ca.Pool, ServerName: "gateway", Certificates: []tls.Certificate{own.Certificate}}

	s, addr := start(t, Config{Units: map[byte]Handler{1: specimen()}, TLS: server, MaxConns: 2, HandshakeTimeout: time.Hour})
	slow := dial(t, addr)
	send(t, slow, "16 03 01")
	c := secure(t, addr, client)
	send(t, c, ask)
	expect(t, c, answer)
	require.Eventually(t, func() bool { return s.Stats().Connections == 2 }, patience, time.Millisecond)
	expectEnd(t, dial(t, addr))
	assert.EqualValues(t, 1, s.Stats().Refused)
	require.NoError(t, s.Close(context.Background()), "it ends handshakes")
	expectEnd(t, slow)

	s, addr = start(t, Config{TLS: server, HandshakeTimeout: 20 * time.Millisecond})
	expectEnd(t, dial(t, addr))
	require.Eventually(t, func() bool { return s.Stats().Connections == 0 }, patience, time.Millisecond)
	assert.EqualValues(t, 1, s.Stats().Denied)
}

func TestAllow(t *testing.T) {
	t.Parallel()
	prefix := netip.MustParsePrefix
	s, addr := start(t, Config{Units: map[byte]Handler{1: specimen()}, Allow: []netip.Prefix{prefix("10.0.0.0/8"), prefix("127.0.0.1/32")}})
	c := dial(t, addr)
	send(t, c, ask)
	expect(t, c, answer)
	assert.Zero(t, s.Stats().Denied)

	s, addr = start(t, Config{Units: map[byte]Handler{1: specimen()}, Allow: []netip.Prefix{prefix("10.0.0.0/8")}})
	expectEnd(t, dial(t, addr))
	require.Eventually(t, func() bool { return s.Stats().Denied == 1 }, patience, time.Millisecond)
	assert.Zero(t, s.Stats().Accepted)

	s, err := New(Config{Allow: []netip.Prefix{prefix("10.0.0.0/8"), prefix("fe80::/10")}})
	require.NoError(t, err)
	for address, want := range map[string]bool{
		"10.1.2.3:5": true, "[::ffff:10.1.2.3]:5": true, "11.1.2.3:5": false, "[fe80::1%1]:5": true, "[::1]:5": false,
	} {
		assert.Equal(t, want, s.allowed(net.TCPAddrFromAddrPort(netip.MustParseAddrPort(address))), address)
	}
	assert.False(t, s.allowed(&net.UnixAddr{Name: "x", Net: "unix"}))
}

func TestTLSConfigErrors(t *testing.T) {
	t.Parallel()
	own := testcert.NewCA(t).Issue(t, testcert.Spec{})
	for text, cfg := range map[string]Config{
		"no certificate":    {TLS: &tls.Config{}},
		"want TLS 1.2":      {TLS: &tls.Config{Certificates: []tls.Certificate{own.Certificate}, MinVersion: tls.VersionTLS11}},
		"HandshakeTimeout":  {HandshakeTimeout: -1},
		"not valid":         {Allow: []netip.Prefix{{}}},
		"as an IPv4 prefix": {Allow: []netip.Prefix{netip.MustParsePrefix("::ffff:10.0.0.0/104")}},
	} {
		_, err := New(cfg)
		require.ErrorIs(t, err, ErrConfig)
		assert.ErrorContains(t, err, text)
	}
}
