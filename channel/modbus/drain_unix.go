//go:build linux || darwin

package modbus

import (
	"errors"
	"net"
	"syscall"
)

// drain takes what came so far, up to one b full, without waiting. An end of
// the connection is io.EOF. b must not be empty.
func drain(c net.Conn, b []byte) (n int, err error) {
	sc, ok := c.(syscall.Conn)
	if !ok {
		return 0, nil
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return 0, err
	}
	var cause error
	err = raw.Read(func(fd uintptr) bool {
		for {
			n, cause = syscall.Read(int(fd), b)
			if !errors.Is(cause, syscall.EINTR) {
				return true
			}
		}
	})
	switch {
	case err != nil:
		return 0, err
	case errors.Is(cause, syscall.EAGAIN):
		return 0, nil
	case cause != nil:
		return 0, cause
	}
	return n, ended(n)
}
