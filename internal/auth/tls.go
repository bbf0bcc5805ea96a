package auth

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"sync"

	"github.com/voltageems/voltage/model"
)

// TLSFiles are the PEM files of a server.
type TLSFiles struct {
	Cert, Key string
	// ClientCA has the authorities of clients; where it is given, a client needs a
	// certificate of one of them to connect at all.
	ClientCA string
}

// server keeps the certificates of a server current.
type server struct {
	files TLSFiles
	log   *slog.Logger

	mu      sync.Mutex
	watched []*watched
	config  *tls.Config
	failed  string // why the files were not used, as it was said last
}

// NewTLS reads the files and returns a configuration, TLS 1.2 or later, that takes
// in changed files for new connections. A change that cannot be used is logged and
// leaves what was there in force.
func NewTLS(files TLSFiles, clock model.Clock, log *slog.Logger) (*tls.Config, error) {
	s := &server{files: files, log: log}
	for _, path := range []string{files.Cert, files.Key, files.ClientCA} {
		if path != "" {
			w := &watched{path: path, clock: clock}
			w.changed()
			s.watched = append(s.watched, w)
		}
	}
	config, err := s.read()
	if err != nil {
		return nil, err
	}
	s.config = config
	outer := config.Clone()
	outer.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) { return s.current(), nil }
	return outer, nil
}

func (s *server) current() *tls.Config {
	s.mu.Lock()
	defer s.mu.Unlock()
	changed := false
	for _, w := range s.watched {
		changed = w.changed() || changed
	}
	if changed {
		config, err := s.read()
		if err != nil {
			for _, w := range s.watched {
				w.again()
			}
			if text := err.Error(); text != s.failed {
				s.failed = text
				s.log.Error("changed TLS files are not used", "error", err)
			}
		} else {
			s.config, s.failed = config, ""
			s.log.Info("changed TLS files are used for new connections", "cert", s.files.Cert)
		}
	}
	return s.config
}

func (s *server) read() (*tls.Config, error) {
	pair, err := tls.LoadX509KeyPair(s.files.Cert, s.files.Key)
	if err != nil {
		return nil, fmt.Errorf("%w: http: tls: %s and %s: %w", model.ErrInvalid, s.files.Cert, s.files.Key, err)
	}
	// No tickets: with them, who had a certificate of an authority that is none any
	// more would come in without showing it again.
	// HTTP/1.1 alone, for a WebSocket is an upgrade of that.
	config := &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{pair}, NextProtos: []string{"http/1.1"},
		SessionTicketsDisabled: s.files.ClientCA != ""}
	if s.files.ClientCA == "" {
		return config, nil
	}
	data, err := readFile(s.files.ClientCA, maxKeyFile)
	if err != nil {
		return nil, fmt.Errorf("http: tls: %w", err)
	}
	config.ClientCAs, config.ClientAuth = x509.NewCertPool(), tls.RequireAndVerifyClientCert
	if !config.ClientCAs.AppendCertsFromPEM(data) {
		return nil, fmt.Errorf("%w: http: tls: %s: want certificates in PEM", model.ErrInvalid, s.files.ClientCA)
	}
	return config, nil
}
