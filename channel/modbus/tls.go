package modbus

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/voltageems/voltage/channel"
)

// DefaultTLSPort is the port of Modbus/TCP Security.
const DefaultTLSPort = 802

const (
	maxPEM    = 1 << 20
	maxAhead  = 4 << 10
	closeTime = 20 * time.Millisecond
)

// TLSConfig says how to speak TLS to a device, as Modbus/TCP Security
// (MB-TCP-Security v3.6) has it: TLS 1.2 or higher, and a certificate on both
// sides. The device's certificate is verified in any case. Files are PEM. They
// are read at each connect, so that renewed ones are taken without a restart.
type TLSConfig struct {
	// CAFile has the authorities that vouch for the device. Empty means those of
	// the system.
	CAFile string
	// CertFile and KeyFile are this client's certificate, with what lies between
	// it and the authority, and its key: both, or none for devices that do not
	// ask for one, against the specification.
	CertFile, KeyFile string
	// ServerName is the name that the device's certificate bears. Empty means the
	// host of the address.
	ServerName string
}

// TLS returns the Factory of a device that speaks Modbus/TCP Security at
// address, host:port or host alone for port 802. It is a Bus with one unit. See
// NewTLSBus.
func TLS(address string, c TLSConfig, opts ...Option) channel.Factory {
	b := NewTLSBus(address, c, opts...)
	return b.factory(b.options)
}

// NewTLSBus is NewBus for TLS. The Factories that Unit returns read the files to
// check them; an expired certificate is found out at connect.
func NewTLSBus(address string, c TLSConfig, opts ...Option) *Bus {
	return newTLSBus(address, append(opts[:len(opts):len(opts)], withTLS(c))...)
}

func withTLS(c TLSConfig) Option { return func(o *options) { o.line.tls = c } }

func newTLSBus(address string, opts ...Option) *Bus {
	target, err := hostPort(address, DefaultTLSPort)
	b := newBus(target, err, opts)
	b.tls = true
	b.line.dial = dialTLS(target, b.options.line.tls)
	b.line.frame = func(c net.Conn) wire { return newConn(c) }
	return b
}

// load reads the files.
func (c TLSConfig) load() (*tls.Config, error) {
	out := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: c.ServerName}
	if c.CAFile != "" {
		pem, err := readPEM(c.CAFile)
		if err != nil {
			return nil, fmt.Errorf("ca file: %w", err)
		}
		out.RootCAs = x509.NewCertPool()
		if !out.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("ca file: %s: holds no certificate in PEM form", c.CAFile)
		}
	}
	switch {
	case c.CertFile == "" && c.KeyFile == "":
		return out, nil
	case c.CertFile == "":
		return nil, errors.New("cert file: missing, and there is a key file: want both or none")
	case c.KeyFile == "":
		return nil, errors.New("key file: missing, and there is a cert file: want both or none")
	}
	cert, err := readPEM(c.CertFile)
	if err != nil {
		return nil, fmt.Errorf("cert file: %w", err)
	}
	key, err := readPEM(c.KeyFile)
	if err != nil {
		return nil, fmt.Errorf("key file: %w", err)
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return nil, fmt.Errorf("cert file: %s with key file %s: %w", c.CertFile, c.KeyFile, err)
	}
	out.Certificates = []tls.Certificate{pair}
	return out, nil
}

func readPEM(file string) ([]byte, error) {
	info, err := os.Stat(file)
	switch {
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular() || info.Size() > maxPEM: // reading a pipe could take for ever
		return nil, fmt.Errorf("%s: want a file of at most 1 MiB", file)
	}
	return os.ReadFile(file)
}

func dialTLS(target string, c TLSConfig) func(context.Context) (net.Conn, error) {
	dial := dialTCP(target)
	return func(ctx context.Context) (net.Conn, error) {
		cfg, err := c.load()
		if err != nil {
			return nil, err
		}
		if cfg.ServerName == "" {
			if cfg.ServerName, _, err = net.SplitHostPort(target); err != nil {
				return nil, err
			}
		}
		raw, err := dial(ctx)
		if err != nil {
			return nil, err
		}
		conn := &tlsConn{socket: &tlsSocket{Conn: raw}, shown: len(cfg.Certificates) > 0}
		// Asked only where the device wants a certificate.
		cfg.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			conn.asked = true
			if !conn.shown {
				return new(tls.Certificate), nil
			}
			return &cfg.Certificates[0], nil
		}
		conn.Conn = tls.Client(conn.socket, cfg)
		if err := conn.HandshakeContext(ctx); err != nil {
			_ = raw.Close()
			if err = conn.explain(err); errors.Is(err, io.EOF) {
				err = errors.New("closed by the device")
			}
			return nil, fmt.Errorf("TLS handshake: %w", err)
		}
		return conn, nil
	}
}

// tlsConn is a connection with TLS that can tell whether the peer closed it.
type tlsConn struct {
	*tls.Conn
	socket *tlsSocket
	asked  bool // the device asked for a certificate
	shown  bool // and there is one

	reading sync.Mutex
	ahead   []byte // what alive read and Read did not yet
	heard   bool   // anything came after the handshake
}

// Read implements net.Conn.
func (c *tlsConn) Read(b []byte) (int, error) {
	c.reading.Lock()
	defer c.reading.Unlock()
	if len(c.ahead) > 0 {
		n := copy(b, c.ahead)
		c.ahead = c.ahead[n:]
		return n, nil
	}
	n, err := c.Conn.Read(b)
	c.heard = c.heard || n > 0
	return n, c.explain(err)
}

// alive is that of a TCP connection. What lies there may be the device's
// farewell, so it is read, without waiting, and kept.
func (c *tlsConn) alive() bool {
	if !c.reading.TryLock() {
		return true // who reads hears of the end
	}
	defer c.reading.Unlock()
	c.socket.peeking = true
	defer func() { c.socket.peeking = false }()
	var b [512]byte
	for len(c.ahead) < maxAhead {
		n, err := c.Conn.Read(b[:])
		c.ahead = append(c.ahead, b[:n]...)
		c.heard = c.heard || n > 0
		if err != nil {
			return errors.Is(err, os.ErrDeadlineExceeded)
		}
	}
	return true
}

// explain says what an error has to do with certificates. With TLS 1.3 a device
// judges the client's after the handshake, and says so or just hangs up.
func (c *tlsConn) explain(err error) error {
	if errors.Is(err, io.ErrUnexpectedEOF) {
		err = io.EOF // lengths tell where an answer ends, so this is no less than a proper end
	}
	var op *net.OpError
	gone := (errors.As(err, &op) || errors.Is(err, io.EOF)) && !errors.Is(err, os.ErrDeadlineExceeded)
	refused := op != nil && op.Op == "remote error"
	switch {
	case !gone, c.heard:
		return err
	case c.asked && !c.shown:
		return fmt.Errorf("the device wants a client certificate, and no cert file is set (%s)", err)
	case refused && c.asked:
		return fmt.Errorf("the device refuses this client's certificate: %w", err)
	case refused:
		return fmt.Errorf("the device refuses the connection: %w", err)
	case c.asked:
		return fmt.Errorf("closed by the device, which perhaps refuses this client's certificate (%s)", err)
	}
	return err
}

// Close implements net.Conn. A device that takes nothing any more must not hold
// up the others of the line, so there is little time to say goodbye.
func (c *tlsConn) Close() error {
	c.socket.closing.Store(true)
	_ = c.socket.Conn.SetWriteDeadline(time.Now().Add(closeTime))
	return c.Conn.Close()
}

// tlsSocket is the connection under TLS.
type tlsSocket struct {
	net.Conn
	peeking bool // reading does not wait
	closing atomic.Bool
}

// Read implements net.Conn.
func (s *tlsSocket) Read(b []byte) (int, error) {
	if !s.peeking {
		return s.Conn.Read(b)
	}
	n, err := drain(s.Conn, b)
	if n == 0 && err == nil {
		err = os.ErrDeadlineExceeded // after which TLS can go on
	}
	return n, err
}

// SetWriteDeadline implements net.Conn; crypto/tls would allow the last message
// five seconds.
func (s *tlsSocket) SetWriteDeadline(t time.Time) error {
	if s.closing.Load() {
		return nil
	}
	return s.Conn.SetWriteDeadline(t)
}
