package northbound_test

import (
	"crypto/tls"
	"encoding/binary"
	"io"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/voltageems/voltage/channel"
	"github.com/voltageems/voltage/channel/modbus"
	"github.com/voltageems/voltage/channel/modbus/northbound"
	"github.com/voltageems/voltage/internal/testcert"
	"github.com/voltageems/voltage/model"
	"github.com/voltageems/voltage/scripts"
)

// ask sends one request and returns the answer, from the function code on.
func ask(t *testing.T, c net.Conn, pdu ...byte) []byte {
	t.Helper()
	require.NoError(t, c.SetDeadline(time.Now().Add(patience)))
	frame := append([]byte{0, 1, 0, 0, 0, byte(len(pdu) + 1), 1}, pdu...)
	_, err := c.Write(frame)
	require.NoError(t, err)
	head := make([]byte, 7)
	_, err = io.ReadFull(c, head)
	require.NoError(t, err)
	answer := make([]byte, binary.BigEndian.Uint16(head[4:])-1)
	_, err = io.ReadFull(c, answer)
	require.NoError(t, err)
	return answer
}

// Modbus/TCP Security: who has no certificate is not served, who has not the
// role may not write, and the journal has who did.
func TestTLS(t *testing.T) {
	t.Parallel()
	ca, other := testcert.NewCA(t), testcert.NewCA(t)
	own := ca.Issue(t, testcert.Spec{Name: "site", Hosts: []string{"127.0.0.1"}})
	s := startSite(t, scripts.StoreConfig{}, func(s *site) channel.ServerFactory {
		return northbound.TLS("127.0.0.1:0", northbound.TLSConfig{CertFile: own.CertFile, KeyFile: own.KeyFile, ClientCAFile: ca.File}, siteMap,
			s.bound(), northbound.WriteRoles("operator"))
	})
	eventually(t, "bound", func() bool { return s.address() != "" })
	dial := func(certs ...tls.Certificate) (net.Conn, error) {
		c, err := tls.Dial("tcp", s.address(), &tls.Config{RootCAs: ca.Pool, Certificates: certs})
		if err != nil {
			return nil, err
		}
		t.Cleanup(func() { _ = c.Close() })
		require.NoError(t, c.SetDeadline(time.Now().Add(patience)))
		_, err = c.Write([]byte{0, 1, 0, 0, 0, 6, 1, 2, 0, 0, 0, 1}) // with TLS 1.3 the first answer tells
		if err == nil {
			_, err = io.ReadAtLeast(c, make([]byte, 100), 9)
		}
		return c, err
	}
	_, err := dial()
	require.Error(t, err)
	_, err = dial(other.Issue(t, testcert.Spec{Name: "stranger", Role: "operator"}).Certificate)
	require.Error(t, err)

	viewer, err := dial(ca.Issue(t, testcert.Spec{Name: "panel", Role: "viewer"}).Certificate)
	require.NoError(t, err)
	assert.Equal(t, []byte{0x86, 1}, ask(t, viewer, 6, 0, 0, 0, 50))
	// The driver of this module is such a client, too.
	panel := ca.Issue(t, testcert.Spec{Name: "panel", Role: "viewer"})
	c := connect(t, modbus.TLS(s.address(), modbus.TLSConfig{CAFile: ca.File, CertFile: panel.CertFile, KeyFile: panel.KeyFile}), clientPoints)
	c.sees("values", func(now map[string]model.Sample) bool { return now["power"].Value == 12.5 })
	_, err = c.write("setpoint", 7)
	require.ErrorContains(t, err, "illegal function")

	operator, err := dial(ca.Issue(t, testcert.Spec{Name: "scada", Role: "operator"}).Certificate)
	require.NoError(t, err)
	eventually(t, "done", func() bool { return len(ask(t, operator, 6, 0, 0, 0, 50)) == 5 })
	v, _ := s.device.Setpoint("4")
	assert.Equal(t, 5.0, v)
	list, err := s.Plane().CommandJournal(t.Context(), "", 100)
	require.NoError(t, err)
	require.NotEmpty(t, list)
	for _, ev := range list {
		assert.Equal(t, "scada (operator)", ev.User)
	}

	// A file that is not there is a problem of this server alone.
	require.NoError(t, s.RegisterServer(channel.ServerConfig{ID: "scada", Server: northbound.TLS("127.0.0.1:0",
		northbound.TLSConfig{CertFile: own.CertFile, KeyFile: own.KeyFile, ClientCAFile: "nowhere.pem"}, siteMap)}))
	eventually(t, "told", func() bool {
		for _, p := range s.Problems() {
			if p == "server scada: TLS: stat nowhere.pem: no such file or directory" {
				return true
			}
		}
		return false
	})
}

// Functions 22 and 23, and who may not connect.
func TestFunctionsAndAllow(t *testing.T) {
	t.Parallel()
	s := startSite(t, scripts.StoreConfig{}, func(s *site) channel.ServerFactory {
		return northbound.TCP("127.0.0.1:0", siteMap, s.bound(), northbound.Allow("127.0.0.0/8"))
	})
	eventually(t, "bound", func() bool { return s.address() != "" })
	c := connect(t, modbus.TCP(s.address()), clientPoints)
	c.sees("values", func(now map[string]model.Sample) bool { return now["setpoint"].Value == 12.5 })
	conn, err := net.Dial("tcp", s.address())
	require.NoError(t, err)
	defer conn.Close()
	assert.Equal(t, []byte{22, 0, 0, 0xFF, 0, 0, 1}, ask(t, conn, 22, 0, 0, 0xFF, 0, 0, 1))
	v, _ := s.device.Setpoint("4")
	assert.Equal(t, 0.1, v, "125 and the mask is 0, and 1")
	answer := ask(t, conn, 23, 0, 1, 0, 2, 0, 0, 0, 1, 2, 0, 70)
	assert.Equal(t, []byte{23, 4, 0, 1, 0x86, 0xA0}, answer)
	v, _ = s.device.Setpoint("4")
	assert.Equal(t, 7.0, v)
	assert.Equal(t, []byte{0x97, 2}, ask(t, conn, 23, 0, 5, 0, 2, 0, 0, 0, 1, 2, 0, 80), "what cannot be read is not written either")
	assert.Equal(t, []byte{0x98, 1}, ask(t, conn, 24, 0, 0))
	v, _ = s.device.Setpoint("4")
	assert.Equal(t, 7.0, v)

	s.addr = ""
	require.NoError(t, s.RegisterServer(channel.ServerConfig{ID: "scada", Server: northbound.TCP("127.0.0.1:0", siteMap, s.bound(), northbound.Allow("10.0.0.0/8"))}))
	eventually(t, "bound", func() bool { return s.address() != "" })
	stranger, err := net.Dial("tcp", s.address())
	require.NoError(t, err)
	defer stranger.Close()
	require.NoError(t, stranger.SetDeadline(time.Now().Add(patience)))
	_, err = stranger.Read(make([]byte, 1))
	require.ErrorIs(t, err, io.EOF)
}
