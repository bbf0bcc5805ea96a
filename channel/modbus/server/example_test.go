package server_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"net/netip"

	"github.com/voltageems/voltage/channel/modbus/server"
)

func Example() {
	ctx := context.Background()
	meter := &server.Memory{}
	meter.SetRegisters(server.InputRegister, 0, 2301, 2298, 2305)

	srv, err := server.New(server.Config{Units: map[byte]server.Handler{1: meter}})
	if err != nil {
		fmt.Println(err)
		return
	}
	if _, err := srv.Listen(ctx, "127.0.0.1:0"); err != nil {
		fmt.Println(err)
		return
	}
	// ... clients read input registers 0 to 2 of unit 1 ...
	fmt.Println(srv.Close(ctx))
	// Output: <nil>
}

// guarded lets operators write and everybody read.
type guarded struct{ *server.Memory }

func (g guarded) WriteRegisters(ctx context.Context, t server.Table, address uint16, values []uint16) error {
	if server.PeerFrom(ctx).Role != "Operator" {
		return server.IllegalFunction // as Modbus/TCP Security answers what a role may not do
	}
	return g.Memory.WriteRegisters(ctx, t, address, values)
}

func ExamplePeerFrom() {
	setpoints := guarded{&server.Memory{}}
	setpoints.SetRegisters(server.HoldingRegister, 0, 0)
	_, err := server.New(server.Config{
		Units: map[byte]server.Handler{1: setpoints},
		Allow: []netip.Prefix{netip.MustParsePrefix("192.168.1.0/24")},
		TLS:   &tls.Config{GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return own() }},
	})
	fmt.Println(err)
	// Output: <nil>
}

// own reads the files anew for each client, so that a renewed certificate is
// taken without a restart.
func own() (*tls.Certificate, error) {
	c, err := tls.LoadX509KeyPair("/etc/gateway/cert.pem", "/etc/gateway/key.pem")
	return &c, err
}
