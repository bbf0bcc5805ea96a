package server

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"unicode/utf8"
)

// Peer is the client that sent a request.
type Peer struct {
	// Addr is the client's address; nil where it came over a line that has none.
	Addr net.Addr
	// Serial is true for a serial line, or whatever [Server.ServeRTU] serves.
	Serial bool
	// Role is what the client's certificate says it may do: the extension
	// 1.3.6.1.4.1.50316.802.1 of Modbus/TCP Security. Empty without TLS, without
	// a certificate that the server verified, and in one that has no role.
	Role string
	// CommonName is that of the certificate's subject, empty as Role is.
	CommonName string
}

type peerKey struct{}

// PeerFrom returns the client whose request a handler serves, from the context
// that the handler got; the zero Peer for any other context.
func PeerFrom(ctx context.Context) Peer {
	p, _ := ctx.Value(peerKey{}).(Peer)
	return p
}

func withPeer(ctx context.Context, p Peer) context.Context {
	return context.WithValue(ctx, peerKey{}, p)
}

// roleOID is the certificate extension that holds the client's role.
var roleOID = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 50316, 802, 1}

// roleOf returns the role in a certificate, empty where there is none.
func roleOf(c *x509.Certificate) (string, error) {
	for _, e := range c.Extensions { // each is there once at most: x509 sees to that
		if !e.Id.Equal(roleOID) {
			continue
		}
		var v asn1.RawValue
		rest, err := asn1.Unmarshal(e.Value, &v)
		if err != nil || len(rest) > 0 || v.Class != asn1.ClassUniversal || v.Tag != asn1.TagUTF8String || !utf8.Valid(v.Bytes) {
			return "", errors.New("the role in the client's certificate is no UTF8String")
		}
		return string(v.Bytes), nil
	}
	return "", nil
}

// checkTLS says what is wrong with a configuration.
func checkTLS(c *tls.Config) error {
	switch {
	case len(c.Certificates) == 0 && c.GetCertificate == nil && c.GetConfigForClient == nil:
		return errors.New("TLS has no certificate")
	case c.MinVersion != 0 && c.MinVersion < tls.VersionTLS12:
		return fmt.Errorf("TLS.MinVersion is %s, want TLS 1.2 or higher", tls.VersionName(c.MinVersion))
	}
	return nil
}

// harden returns the configuration with what Modbus/TCP Security demands where
// it leaves that open: certificates on both sides, and TLS 1.2.
func harden(c *tls.Config) *tls.Config {
	c = c.Clone()
	c.MinVersion = max(c.MinVersion, tls.VersionTLS12)
	if c.ClientAuth == tls.NoClientCert {
		c.ClientAuth = tls.RequireAndVerifyClientCert
	}
	if get := c.GetConfigForClient; get != nil {
		c.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
			own, err := get(hello)
			if own == nil || err != nil {
				return nil, err
			}
			return harden(own), nil
		}
	}
	return c
}

// welcome finds out who is there and secures the connection where TLS is asked
// for. It takes at most HandshakeTimeout.
func (s *Server) welcome(conn net.Conn) (net.Conn, Peer, error) {
	p := Peer{Addr: conn.RemoteAddr()}
	if s.tls == nil {
		return conn, p, nil
	}
	ctx, cancel := context.WithTimeout(s.ctx, s.cfg.HandshakeTimeout)
	defer cancel()
	c := tls.Server(conn, s.tls)
	if err := c.HandshakeContext(ctx); err != nil {
		if errors.Is(err, context.DeadlineExceeded) {
			err = fmt.Errorf("not done within %s", s.cfg.HandshakeTimeout)
		}
		return conn, p, fmt.Errorf("TLS handshake: %w", err)
	}
	// Without verification a certificate tells nothing.
	if chains := c.ConnectionState().VerifiedChains; len(chains) > 0 {
		var err error
		if p.Role, err = roleOf(chains[0][0]); err != nil {
			return c, p, err
		}
		p.CommonName = chains[0][0].Subject.CommonName
	}
	return c, p, nil
}

// allowed reports whether a client may connect from where it does.
func (s *Server) allowed(from net.Addr) bool {
	if len(s.cfg.Allow) == 0 {
		return true
	}
	tcp, ok := from.(*net.TCPAddr)
	if !ok {
		return false
	}
	ip := tcp.AddrPort().Addr().Unmap().WithZone("")
	for _, p := range s.cfg.Allow {
		if p.Contains(ip) {
			return true
		}
	}
	return false
}

// checkAllow says what is wrong with a list of prefixes.
func checkAllow(list []netip.Prefix) error {
	for _, p := range list {
		switch {
		case !p.IsValid():
			return errors.New("a prefix in Allow is not valid")
		case p.Addr().Is4In6():
			return fmt.Errorf("prefix %s in Allow: want it as an IPv4 prefix", p)
		}
	}
	return nil
}
