package server_test

import (
	"context"
	"fmt"

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
