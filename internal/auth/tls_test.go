package auth

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// certificate writes a self-signed certificate that is its own authority.
func certificate(t *testing.T, dir, name string) (cert, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	require.NoError(t, err)
	text, err := x509.MarshalPKCS8PrivateKey(private)
	require.NoError(t, err)
	cert, key = filepath.Join(dir, name+".crt"), filepath.Join(dir, name+".key")
	require.NoError(t, os.WriteFile(cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600))
	require.NoError(t, os.WriteFile(key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: text}), 0o600))
	return cert, key
}

// greet connects and returns the name of the server.
func greet(t *testing.T, server *tls.Config, client *tls.Config) (string, error) {
	t.Helper()
	l, err := tls.Listen("tcp", "127.0.0.1:0", server)
	require.NoError(t, err)
	done := make(chan struct{})
	go func() {
		defer close(done)
		conn, err := l.Accept()
		if err != nil {
			return
		}
		defer func() { _ = conn.Close() }()
		if conn.(*tls.Conn).Handshake() == nil {
			_, _ = conn.Write([]byte("x"))
		}
	}()
	defer func() {
		_ = l.Close()
		<-done
	}()
	client.InsecureSkipVerify = true
	conn, err := tls.Dial("tcp", l.Addr().String(), client)
	if err != nil {
		return "", err
	}
	defer func() { _ = conn.Close() }()
	if _, err := conn.Read(make([]byte, 1)); err != nil { // in TLS 1.3 a refusal comes only now
		return "", err
	}
	return conn.ConnectionState().PeerCertificates[0].Subject.CommonName, nil
}

func TestTLSFilesAreReadAgain(t *testing.T) {
	t.Parallel()
	dir, c := t.TempDir(), newClock()
	cert, key := certificate(t, dir, "one")
	var log bytes.Buffer
	config, err := NewTLS(TLSFiles{Cert: cert, Key: key}, c, slog.New(slog.NewTextHandler(&log, nil)))
	require.NoError(t, err)
	name, err := greet(t, config, &tls.Config{})
	require.NoError(t, err)
	assert.Equal(t, "one", name)
	_, err = greet(t, config, &tls.Config{MaxVersion: tls.VersionTLS11})
	require.Error(t, err)

	require.NoError(t, os.WriteFile(key, []byte("broken"), 0o600))
	c.move(lookEvery)
	name, err = greet(t, config, &tls.Config{})
	require.NoError(t, err)
	assert.Equal(t, "one", name, "what cannot be used changes nothing")
	assert.Contains(t, log.String(), "changed TLS files are not used")

	for range 5 {
		c.move(lookEvery)
		_, err = greet(t, config, &tls.Config{})
		require.NoError(t, err)
	}
	assert.Equal(t, 1, bytes.Count(log.Bytes(), []byte("changed TLS files are not used")), "said once")

	newCert, newKey := certificate(t, dir, "two")
	require.NoError(t, os.Rename(newCert, cert))
	require.NoError(t, os.Rename(newKey, key))
	c.move(lookEvery)
	name, err = greet(t, config, &tls.Config{})
	require.NoError(t, err)
	assert.Equal(t, "two", name)
}

// A file that could not be read is read again although nothing shows that it changed,
// as after a change of its owner.
func TestFilesThatFailedAreReadAgain(t *testing.T) {
	t.Parallel()
	dir, c := t.TempDir(), newClock()
	same := func(path string, data []byte) {
		require.NoError(t, os.WriteFile(path, data, 0o600))
		require.NoError(t, os.Chtimes(path, c.Now(), time.Unix(1_700_000_000, 0)))
	}
	cert, key := certificate(t, dir, "one")
	config, err := NewTLS(TLSFiles{Cert: cert, Key: key}, c, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	newCert, newKey := certificate(t, dir, "two")
	right, err := os.ReadFile(newKey)
	require.NoError(t, err)
	same(key, bytes.Repeat([]byte("x"), len(right)))
	require.NoError(t, os.Rename(newCert, cert))
	c.move(lookEvery)
	name, err := greet(t, config, &tls.Config{})
	require.NoError(t, err)
	assert.Equal(t, "one", name)
	same(key, right)
	c.move(lookEvery)
	name, err = greet(t, config, &tls.Config{})
	require.NoError(t, err)
	assert.Equal(t, "two", name)

	set := setOf(t)
	path := filepath.Join(dir, "keys.json")
	same(path, bytes.Repeat([]byte("x"), len(set)))
	v := newVerifier(JWT{KeyFile: path}, c)
	_, err = v.current()
	require.Error(t, err)
	same(path, set)
	c.move(lookEvery)
	_, err = v.current()
	require.NoError(t, err)
}

func TestClientCertificates(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	cert, key := certificate(t, dir, "server")
	known, knownKey := certificate(t, dir, "known")
	foreign, foreignKey := certificate(t, dir, "foreign")
	config, err := NewTLS(TLSFiles{Cert: cert, Key: key, ClientCA: known}, newClock(), slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	_, err = greet(t, config, &tls.Config{})
	require.Error(t, err)
	for certFile, keyFile := range map[string]string{known: knownKey, foreign: foreignKey} {
		pair, err := tls.LoadX509KeyPair(certFile, keyFile)
		require.NoError(t, err)
		_, err = greet(t, config, &tls.Config{Certificates: []tls.Certificate{pair}})
		assert.Equal(t, certFile == known, err == nil, certFile)
	}
	for _, files := range []TLSFiles{{Cert: "none", Key: "none"}, {Cert: cert, Key: knownKey}, {Cert: cert, Key: key, ClientCA: key}, {Cert: cert, Key: key, ClientCA: "none"}} {
		_, err := NewTLS(files, newClock(), slog.New(slog.DiscardHandler))
		assert.Error(t, err, files)
	}
}
