package northbound

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"

	"github.com/voltageems/voltage/channel"
	"github.com/voltageems/voltage/model"
)

// TLSConfig says how a server speaks Modbus/TCP Security (MB-TCP-Security v3.6):
// TLS 1.2 or higher, and a certificate on both sides. Files are PEM, and all are
// required. They are read for each connection, so that renewed ones are taken
// without a restart.
type TLSConfig struct {
	// CertFile and KeyFile are the server's certificate, with what lies between it
	// and the authority, and its key.
	CertFile, KeyFile string
	// ClientCAFile has the authorities that vouch for clients. There is no default:
	// a certificate of any authority in the world must not open a plant.
	ClientCAFile string
}

// TLS is TCP over TLS, for which port 802 is reserved. Clients are known by their
// certificates, so listen may be more than loopback without Allow.
func TLS(listen string, c TLSConfig, m Map, opts ...Option) channel.ServerFactory {
	return network(listen, m, append(opts[:len(opts):len(opts)], func(o *options) { o.tls = &c }), false)
}

// check says what is missing.
func (c TLSConfig) check() error {
	var errs []error
	for _, f := range []struct{ key, file string }{{"cert_file", c.CertFile}, {"key_file", c.KeyFile}, {"client_ca_file", c.ClientCAFile}} {
		if f.file == "" {
			errs = append(errs, fmt.Errorf("%w: %s: missing", model.ErrInvalid, f.key))
		}
	}
	return errors.Join(errs...)
}

// config returns what reads the files for each connection, and reads them once to
// see that they are good.
func (c TLSConfig) config() (*tls.Config, error) {
	if _, err := c.load(); err != nil {
		return nil, err
	}
	return &tls.Config{GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return c.load() }}, nil
}

func (c TLSConfig) load() (*tls.Config, error) {
	var pem [3][]byte
	for i, file := range []string{c.CertFile, c.KeyFile, c.ClientCAFile} {
		info, err := os.Stat(file)
		if err == nil && (!info.Mode().IsRegular() || info.Size() > 1<<20) { // reading a pipe could take for ever
			err = fmt.Errorf("%s: want a file of at most 1 MiB", file)
		}
		if err == nil {
			pem[i], err = os.ReadFile(file)
		}
		if err != nil {
			return nil, fmt.Errorf("TLS: %w", err)
		}
	}
	cert, err := tls.X509KeyPair(pem[0], pem[1])
	if err != nil {
		return nil, fmt.Errorf("TLS: %s with key %s: %w", c.CertFile, c.KeyFile, err)
	}
	clients := x509.NewCertPool()
	if !clients.AppendCertsFromPEM(pem[2]) {
		return nil, fmt.Errorf("TLS: %s: holds no certificate in PEM form", c.ClientCAFile)
	}
	return &tls.Config{Certificates: []tls.Certificate{cert}, ClientCAs: clients, ClientAuth: tls.RequireAndVerifyClientCert}, nil
}
