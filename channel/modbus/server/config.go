package server

import (
	"crypto/tls"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"time"
)

// Config is the configuration of a [Server]. Its zero value is valid: a server
// without units, which answers every request with [GatewayTargetFailed].
type Config struct {
	// Units are the handlers by unit id. The map is copied; see
	// [Server.SetUnit] for changes while the server runs.
	Units map[byte]Handler
	// MaxConns is the number of connections served at the same time; more are
	// closed as they come. One from an address that has fewer than others gets the
	// place of theirs that was silent for the longest, so that nobody who is allowed
	// keeps out the others. Those whose TLS handshake is under way count. 0 means
	// 32; negative is an error.
	MaxConns int
	// Allow are the addresses from which clients may connect; others are closed
	// as they come. Empty means all.
	Allow []netip.Prefix
	// TLS makes the connections speak TLS 1.2 or higher, as Modbus/TCP Security
	// has it, for which port 802 is reserved. It needs a certificate, in
	// Certificates, GetCertificate or GetConfigForClient. ClientCAs are the
	// authorities whose clients are let in, nil those of the system. The zero
	// ClientAuth means tls.RequireAndVerifyClientCert here, also in what
	// GetConfigForClient returns; tls.VerifyClientCertIfGiven lets in clients
	// without a certificate as well. See [Peer] for who they are. Nil means no
	// TLS. It must not be changed afterwards.
	TLS *tls.Config
	// HandshakeTimeout is the time within which the TLS handshake must be done,
	// else the connection is closed. 0 means 10 s; negative is an error.
	HandshakeTimeout time.Duration
	// IdleTimeout is the time within which the next complete request must have
	// arrived, else the connection is closed. 0 means 60 s; negative is an
	// error.
	IdleTimeout time.Duration
	// WriteTimeout is the time within which a client must take an answer, else
	// the connection is closed. 0 means 5 s; negative is an error.
	WriteTimeout time.Duration
	// RTU makes the connections speak Modbus RTU over TCP in place of Modbus
	// TCP. See [Server.ServeRTU].
	RTU bool
	// Intercept, for tests, is asked for every request before it is executed
	// and may ask for a fault. It is called from several goroutines. Nil means
	// no faults.
	Intercept func(Request) Action
	// Logger takes what happens to connections. Nil means no logging.
	Logger *slog.Logger
}

// Stats are counters of a [Server] since it was made.
type Stats struct {
	// Connections is the number of connections open now.
	Connections int
	// Accepted counts the connections that were served.
	Accepted int64
	// Refused counts the connections that were over the limit, or gave their place
	// to others.
	Refused int64
	// Denied counts the connections from addresses that are not allowed, and
	// those whose TLS handshake failed.
	Denied int64
	// Requests counts the requests with a valid frame.
	Requests int64
	// Exceptions counts the requests that were answered with an exception.
	Exceptions int64
}

// check says what is wrong with the configuration.
func (cfg *Config) check() error {
	switch {
	case cfg.MaxConns < 0:
		return fmt.Errorf("MaxConns is %d", cfg.MaxConns)
	case cfg.IdleTimeout < 0:
		return fmt.Errorf("IdleTimeout is %v", cfg.IdleTimeout)
	case cfg.WriteTimeout < 0:
		return fmt.Errorf("WriteTimeout is %v", cfg.WriteTimeout)
	case cfg.HandshakeTimeout < 0:
		return fmt.Errorf("HandshakeTimeout is %v", cfg.HandshakeTimeout)
	}
	if err := checkAllow(cfg.Allow); err != nil {
		return err
	}
	if cfg.TLS != nil {
		if err := checkTLS(cfg.TLS); err != nil {
			return err
		}
	}
	for id, h := range cfg.Units {
		if h == nil {
			return fmt.Errorf("the handler of unit %d is nil", id)
		}
	}
	return nil
}

// complete fills in the defaults.
func (cfg *Config) complete() {
	if cfg.MaxConns == 0 {
		cfg.MaxConns = 32
	}
	if cfg.IdleTimeout == 0 {
		cfg.IdleTimeout = time.Minute
	}
	if cfg.WriteTimeout == 0 {
		cfg.WriteTimeout = 5 * time.Second
	}
	if cfg.HandshakeTimeout == 0 {
		cfg.HandshakeTimeout = 10 * time.Second
	}
	cfg.Allow = slices.Clone(cfg.Allow)
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
}
