//go:build linux

package peertest

import (
	"context"
	"crypto/tls"
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/voltageems/voltage/channel"
	"github.com/voltageems/voltage/channel/modbus"
	"github.com/voltageems/voltage/channel/modbus/server"
	"github.com/voltageems/voltage/internal/testcert"
	"github.com/voltageems/voltage/model"
)

func TestTLS(t *testing.T) {
	t.Parallel()
	interpreter := python(t)
	ca := testcert.NewCA(t)
	device := ca.Issue(t, testcert.Spec{Name: "device", Hosts: []string{"localhost", "127.0.0.1"}})
	client := ca.Issue(t, testcert.Spec{Name: "client", Role: "operator"})
	var said pymodbus
	peer := start(t, interpreter, pymodbusPeer, "serve", "0", "0", "0", "-", device.CertFile, device.KeyFile, ca.File)
	decode(t, peer.first, &said)
	address := fmt.Sprintf("127.0.0.1:%d", said.TLS)
	config := modbus.TLSConfig{CAFile: ca.File, CertFile: client.CertFile, KeyFile: client.KeyFile}
	bus := modbus.NewTLSBus(address, config)
	readAll(t, func(id int) channel.Factory { return bus.Unit(id) }, said.Points)
	writeAll(t, bus.Unit(1), order{"coil:4003", 1}, order{"holding:4001:float32:CDAB", 0.15625}, order{"holding:4010", 7})

	// The device asks for a certificate, and this client for the right one.
	other := testcert.NewCA(t)
	for _, wrong := range []modbus.TLSConfig{{CAFile: ca.File}, {CAFile: other.File, CertFile: client.CertFile, KeyFile: client.KeyFile}} {
		d := open(t, modbus.TLS(address, wrong), model.Point{ID: "a", Address: "holding:3000"})
		err := d.Connect(context.Background())
		if err == nil {
			_, err = d.Read(context.Background()) // with TLS 1.3 a refusal comes after the handshake
		}
		require.ErrorIs(t, err, channel.ErrNotConnected)
	}

	d := open(t, bus.Unit(1), model.Point{ID: "a", Address: "holding:3000"})
	require.NoError(t, d.Connect(context.Background()))
	peer.kill()
	_, err := d.Read(context.Background())
	require.ErrorIs(t, err, channel.ErrNotConnected)
	start(t, interpreter, pymodbusPeer, "serve", "0", "0", fmt.Sprint(said.TLS), "-", device.CertFile, device.KeyFile, ca.File)
	recovers(t, d, "a", 1)

	// And the other way round.
	o := newOurs(t)
	srv, err := server.New(server.Config{
		Units: map[byte]server.Handler{7: o.memory},
		TLS:   &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{device.Certificate}, ClientCAs: ca.Pool},
	})
	require.NoError(t, err)
	bound, err := srv.Listen(context.Background(), "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, srv.Close(context.Background())) })
	assert.Equal(t, "ok\n", run(t, interpreter, pymodbusPeer, "use", "tls", bound.String(), ca.File, client.CertFile, client.KeyFile))
	o.written(t, map[uint16]uint16{0: 0x5555, 122: 122 ^ 0x5555, 123: 123 * 7})
}
