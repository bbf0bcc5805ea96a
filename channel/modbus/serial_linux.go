package modbus

import (
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"
	"time"

	"github.com/goburrow/serial"
	"golang.org/x/sys/unix"
)

// serialConn is an open serial line. goburrow/serial makes its settings; the
// reading and writing is the runtime's, which knows deadlines and has no limit
// of 1024 open files.
type serialConn struct{ *os.File }

// openSerial opens a serial line, for this process alone and with nothing in
// its buffers.
func openSerial(device string, s serialOptions) (net.Conn, error) {
	f, err := os.OpenFile(device, os.O_RDWR|unix.O_NOCTTY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	c := &serialConn{f}
	// Without deadlines a request could wait for ever.
	if err = f.SetDeadline(time.Time{}); err != nil {
		err = errors.New("not a serial line")
	} else {
		err = withFD(f, func(fd int) error { return setUp(fd, device, s) })
	}
	if err != nil {
		_ = c.Close()
		return nil, fmt.Errorf("%s: %w", device, err)
	}
	return c, nil
}

// setUp makes the settings. They stay when the line is closed: those of before
// may be a terminal's, which sends back what comes in, and the answer to a write
// that comes back to a device is a second write.
func setUp(fd int, device string, s serialOptions) error {
	t, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err != nil {
		return fmt.Errorf("not a serial line: %w", err)
	}
	if err := syscall.Flock(fd, syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		if errors.Is(err, unix.EWOULDBLOCK) {
			err = errors.New("in use by another program")
		}
		return err
	}
	t.Lflag = 0 // no echo from here on, also while the settings below are undone
	if err := unix.IoctlSetTermios(fd, unix.TCSETS, t); err != nil {
		return err
	}
	port, err := serial.Open(&serial.Config{Address: device, BaudRate: s.baud, StopBits: s.stop, Parity: parities[s.parity]})
	if err != nil {
		return err
	}
	t, err = unix.IoctlGetTermios(fd, unix.TCGETS)
	// This undoes the settings. It comes now because on a line that was
	// unplugged it would complain to the standard logger.
	if err := errors.Join(err, port.Close()); err != nil {
		return err
	}
	// With 0, a line on which nothing came cannot be told from one that is gone.
	t.Cc[unix.VMIN], t.Cc[unix.VTIME] = 1, 0
	if err := unix.IoctlSetTermios(fd, unix.TCSETS, t); err != nil {
		return err
	}
	return unix.IoctlSetInt(fd, unix.TCFLSH, unix.TCIOFLUSH)
}

// withFD runs fn with the file's descriptor.
func withFD(f *os.File, fn func(fd int) error) error {
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	if e := raw.Control(func(fd uintptr) { err = fn(int(fd)) }); e != nil {
		return e
	}
	return err
}

// Close gives the line back at once: a program that this process is starting has
// the descriptor too until it runs, and with it would keep the lock.
func (c *serialConn) Close() error {
	_ = withFD(c.File, func(fd int) error { return syscall.Flock(fd, syscall.LOCK_UN) })
	return c.File.Close()
}

// LocalAddr implements net.Conn.
func (c *serialConn) LocalAddr() net.Addr { return serialAddr(c.Name()) }

// RemoteAddr implements net.Conn.
func (c *serialConn) RemoteAddr() net.Addr { return serialAddr(c.Name()) }

type serialAddr string

func (serialAddr) Network() string  { return "serial" }
func (a serialAddr) String() string { return string(a) }
