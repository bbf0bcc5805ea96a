//go:build linux || darwin

package modbus

import (
	"errors"
	"net"
	"syscall"
)

// alive reports whether the peer still holds its end of the connection, as far
// as this machine was told. Nothing that came is lost.
func alive(c net.Conn) bool {
	if secured, ok := c.(*tlsConn); ok {
		return secured.alive()
	}
	sc, ok := c.(syscall.Conn)
	if !ok {
		return true
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return false
	}
	ok = false
	err = raw.Control(func(fd uintptr) {
		var b [1]byte
		n, _, err := syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		ok = n > 0 || errors.Is(err, syscall.EAGAIN) || errors.Is(err, syscall.EINTR)
	})
	return ok && err == nil
}
