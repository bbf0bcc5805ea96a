//go:build !linux

package modbus

import (
	"errors"
	"fmt"
	"net"
)

// openSerial is not there on this system.
func openSerial(device string, _ serialOptions) (net.Conn, error) {
	return nil, fmt.Errorf("%s: serial lines need Linux: %w", device, errors.ErrUnsupported)
}
