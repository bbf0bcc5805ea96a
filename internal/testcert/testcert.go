// Package testcert makes certificates for tests, at test time.
package testcert

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// CA is a certificate authority for one test.
type CA struct {
	// File has the authority's certificate as PEM, Pool has it alone.
	File string
	Pool *x509.CertPool

	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// Spec is what a certificate says. The zero value is a certificate without any
// name that is valid for an hour.
type Spec struct {
	// Name is the common name.
	Name string
	// Hosts are the DNS names and IP addresses that it is for.
	Hosts []string
	// Role is that of Modbus/TCP Security; none when empty.
	Role string
	// Expired makes one that was valid until an hour ago.
	Expired bool
	// Extensions are further ones.
	Extensions []pkix.Extension
}

// Cert is a certificate with its key, in memory and as PEM files.
type Cert struct {
	tls.Certificate
	CertFile, KeyFile string
}

// RoleID is the certificate extension of a role.
var RoleID = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 50316, 802, 1}

// NewCA makes an authority.
func NewCA(tb testing.TB) *CA {
	tb.Helper()
	key := newKey(tb)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test authority"},
		NotBefore: time.Now().Add(-24 * time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	must(tb, err)
	ca := &CA{File: filepath.Join(tb.TempDir(), "ca.pem"), Pool: x509.NewCertPool(), key: key}
	ca.cert, err = x509.ParseCertificate(der)
	must(tb, err)
	ca.Pool.AddCert(ca.cert)
	write(tb, ca.File, "CERTIFICATE", der)
	return ca
}

// Issue makes a certificate for both ends of a connection.
func (ca *CA) Issue(tb testing.TB, s Spec) Cert {
	tb.Helper()
	key := newKey(tb)
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	must(tb, err)
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: s.Name},
		NotBefore: time.Now().Add(-2 * time.Hour), NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtraExtensions: s.Extensions,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	if s.Expired {
		template.NotAfter = time.Now().Add(-time.Hour)
	}
	for _, h := range s.Hosts {
		if ip := net.ParseIP(h); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, h)
		}
	}
	if s.Role != "" {
		value, err := asn1.MarshalWithParams(s.Role, "utf8")
		must(tb, err)
		template.ExtraExtensions = append(template.ExtraExtensions, pkix.Extension{Id: RoleID, Value: value})
	}
	der, err := x509.CreateCertificate(rand.Reader, template, ca.cert, key.Public(), ca.key)
	must(tb, err)
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	must(tb, err)
	folder := tb.TempDir()
	c := Cert{CertFile: filepath.Join(folder, "cert.pem"), KeyFile: filepath.Join(folder, "key.pem")}
	write(tb, c.CertFile, "CERTIFICATE", der)
	write(tb, c.KeyFile, "PRIVATE KEY", secret)
	c.Certificate, err = tls.LoadX509KeyPair(c.CertFile, c.KeyFile)
	must(tb, err)
	return c
}

func newKey(tb testing.TB) *ecdsa.PrivateKey {
	tb.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(tb, err)
	return key
}

func write(tb testing.TB, file, kind string, der []byte) {
	tb.Helper()
	must(tb, os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600))
}

func must(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}
