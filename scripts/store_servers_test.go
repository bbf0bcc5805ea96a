package scripts

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/voltageems/voltage/scripts/storetest"
)

func TestStoreURLAgainstRedis(t *testing.T) {
	t.Parallel()
	s := storeOpen(t, StoreConfig{URL: storetest.Redis(t)})
	require.Equal(t, StoreURL, s.Kind)
	require.False(t, s.Cluster)
	require.NotEmpty(t, s.Version)
}

func TestStoreUnixSocketAndACL(t *testing.T) {
	t.Parallel()
	dir, err := os.MkdirTemp("", "v") // t.TempDir may be too long for a socket
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	socket := filepath.Join(dir, "s")
	args := "--user site on >p@ss/word ~* &* +@all -@admin -@dangerous -client -info -hello --user default off"
	server := storetest.Own(t, append(strings.Fields(args), "--unixsocket", socket)...)
	storeOpen(t, StoreConfig{URL: "unix://site:p%40ss%2Fword@" + socket})
	storeOpen(t, StoreConfig{URL: "redis://site:p%40ss%2Fword@" + server.Addr})

	_, err = OpenStore(context.Background(), StoreConfig{URL: "redis://site:wrongsecret@" + server.Addr}, nil)
	require.ErrorIs(t, err, ErrStoreUnavailable)
	require.NotContains(t, err.Error(), "wrongsecret")
	_, err = OpenStore(context.Background(), StoreConfig{URL: server.URL}, nil)
	require.ErrorContains(t, err, "NOAUTH")
}

func TestStoreTLSAgainstRedis(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	storeMakeCertificates(t, dir)
	file := func(name string) string { return filepath.Join(dir, name) }
	port := storeFreePort(t)
	storetest.Own(t, "--tls-port", fmt.Sprint(port), "--tls-cert-file", file("cert.pem"), "--tls-key-file", file("key.pem"),
		"--tls-ca-cert-file", file("ca.pem"), "--tls-auth-clients", "yes")
	url := fmt.Sprintf("rediss://127.0.0.1:%d", port)
	tls := StoreTLS{CAFile: file("ca.pem"), CertFile: file("cert.pem"), KeyFile: file("key.pem")}
	storeOpen(t, StoreConfig{URL: url, TLS: tls})
	tls.ServerName = "store.example"
	storeOpen(t, StoreConfig{URL: url, TLS: tls})

	tls.ServerName = "other.example"
	_, err := OpenStore(context.Background(), StoreConfig{URL: url, TLS: tls}, nil)
	require.ErrorContains(t, err, "other.example")
	_, err = OpenStore(context.Background(), StoreConfig{URL: url}, nil) // not signed by the system's authorities
	require.ErrorIs(t, err, ErrStoreUnavailable)
	_, err = OpenStore(context.Background(), StoreConfig{URL: url, TLS: StoreTLS{CAFile: file("none.pem")}}, nil)
	require.ErrorIs(t, err, ErrStoreConfig)
	_, err = OpenStore(context.Background(), StoreConfig{URL: url, TLS: StoreTLS{CAFile: file("key.pem")}}, nil)
	require.ErrorContains(t, err, "no PEM certificate")
	_, err = OpenStore(context.Background(), StoreConfig{URL: url, TLS: StoreTLS{CertFile: file("ca.pem"), KeyFile: file("none")}}, nil)
	require.ErrorIs(t, err, ErrStoreConfig)
}

func TestStoreSentinelAgainstRedis(t *testing.T) {
	t.Parallel()
	master := storetest.Own(t, "--requirepass", "pw")
	_, masterPort, err := net.SplitHostPort(master.Addr)
	require.NoError(t, err)
	dir := t.TempDir()
	port := storeFreePort(t)
	conf := filepath.Join(dir, "sentinel.conf")
	require.NoError(t, os.WriteFile(conf, fmt.Appendf(nil,
		"bind 127.0.0.1\nport %d\ndir \"%s\"\nrequirepass spw\nsentinel monitor main 127.0.0.1 %s 1\nsentinel auth-pass main pw\n",
		port, dir, masterPort), 0o600))
	storeRun(t, "redis-server", conf, "--sentinel")
	storeListening(t, port)

	dead := storeFreePort(t) // the first of the Sentinels is not there
	url := fmt.Sprintf("redis-sentinel://:pw@127.0.0.1:%d,127.0.0.1:%d/main?sentinel_password=spw", dead, port)
	s := storeOpen(t, StoreConfig{URL: url})
	require.Contains(t, s.Client.Info(context.Background(), "server").Val(), "tcp_port:"+masterPort)

	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	_, err = OpenStore(ctx, StoreConfig{URL: strings.Replace(url, "/main", "/other", 1)}, nil)
	require.ErrorIs(t, err, ErrStoreUnavailable)
}

func TestStoreClusterAgainstRedis(t *testing.T) {
	t.Parallel()
	addrs := storetest.Cluster(t)
	ctx := context.Background()
	s := storeOpen(t, StoreConfig{URL: "redis-cluster://" + strings.Join(addrs, ",")})
	require.True(t, s.Cluster)
	for range 30 { // all slots, so also redirections
		key := "{" + storetest.Site(t) + "}:k"
		require.NoError(t, s.Client.Eval(ctx, "return redis.call('SET', KEYS[1], ARGV[1])", []string{key}, "v").Err())
		require.Equal(t, "v", s.Client.Get(ctx, key).Val())
	}
	_, err := OpenStore(ctx, StoreConfig{URL: "redis://" + addrs[0]}, nil)
	require.ErrorIs(t, err, ErrStoreConfig)
	require.ErrorContains(t, err, "redis-cluster://")
}

func storeFreePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, l.Close())
	return l.Addr().(*net.TCPAddr).Port
}

func storeRun(t *testing.T, name string, args ...string) {
	t.Helper()
	cmd := exec.Command(name, args...)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
}

func storeListening(t *testing.T, port int) {
	t.Helper()
	require.Eventually(t, func() bool {
		c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err == nil {
			_ = c.Close()
		}
		return err == nil
	}, 10*time.Second, 5*time.Millisecond)
}

// storeMakeCertificates writes ca.pem, cert.pem and key.pem for 127.0.0.1 and
// store.example, for server and client use.
func storeMakeCertificates(t *testing.T, dir string) {
	t.Helper()
	caKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	ca := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test CA"}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	caDER, err := x509.CreateCertificate(rand.Reader, ca, ca, &caKey.PublicKey, caKey)
	require.NoError(t, err)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "store"}, DNSNames: []string{"store.example"},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		NotBefore:   ca.NotBefore, NotAfter: ca.NotAfter,
	}
	der, err := x509.CreateCertificate(rand.Reader, leaf, ca, &key.PublicKey, caKey)
	require.NoError(t, err)
	keyDER, err := x509.MarshalECPrivateKey(key)
	require.NoError(t, err)
	for name, block := range map[string]*pem.Block{
		"ca.pem":   {Type: "CERTIFICATE", Bytes: caDER},
		"cert.pem": {Type: "CERTIFICATE", Bytes: der},
		"key.pem":  {Type: "EC PRIVATE KEY", Bytes: keyDER},
	} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(block), 0o600))
	}
}
