package notify

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"

	"github.com/voltageems/voltage/channel"
	"github.com/voltageems/voltage/model"
)

// TLS says how a Sender speaks TLS. The peer's certificate is verified in any
// case. Files are PEM and are read at each connect, so that renewed ones are taken
// without a restart.
type TLS struct {
	// CAFile has the authorities that vouch for the peer. Empty means those of the
	// system.
	CAFile channel.Path `yaml:"ca_file"`
	// CertFile and KeyFile are the client's own: both or none.
	CertFile channel.Path `yaml:"cert_file"`
	KeyFile  channel.Path `yaml:"key_file"`
	// ServerName is the name that the peer's certificate bears. Empty means the host
	// of the address.
	ServerName string `yaml:"server_name"`
}

// Config reads the files. host is the peer's. Errors wrap model.ErrInvalid.
func (t TLS) Config(host string) (*tls.Config, error) {
	c := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: t.ServerName}
	if c.ServerName == "" {
		c.ServerName = host
	}
	if t.CAFile != "" {
		pem, err := os.ReadFile(string(t.CAFile))
		if err != nil {
			return nil, fmt.Errorf("%w: ca_file: %w", model.ErrInvalid, err)
		}
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("%w: ca_file %s: holds no certificate in PEM form", model.ErrInvalid, t.CAFile)
		}
	}
	if (t.CertFile == "") != (t.KeyFile == "") {
		return nil, fmt.Errorf("%w: cert_file and key_file: want both or none", model.ErrInvalid)
	}
	if t.CertFile != "" {
		pair, err := tls.LoadX509KeyPair(string(t.CertFile), string(t.KeyFile))
		if err != nil {
			return nil, fmt.Errorf("%w: cert_file %s with key_file %s: %w", model.ErrInvalid, t.CertFile, t.KeyFile, err)
		}
		c.Certificates = []tls.Certificate{pair}
	}
	return c, nil
}
