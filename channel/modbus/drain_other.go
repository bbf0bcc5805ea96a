//go:build !linux && !darwin

package modbus

import (
	"errors"
	"net"
	"os"
	"time"
)

// drain takes what came so far, up to one b full. This system cannot do that
// without waiting for a moment.
func drain(c net.Conn, b []byte) (n int, err error) {
	if err := c.SetReadDeadline(time.Now().Add(time.Millisecond)); err != nil {
		return 0, err
	}
	n, err = c.Read(b)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		err = nil
	} else if err == nil {
		err = ended(n)
	}
	return n, errors.Join(err, c.SetReadDeadline(time.Time{}))
}
