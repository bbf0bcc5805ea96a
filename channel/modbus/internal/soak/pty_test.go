//go:build linux

package soak

import (
	"fmt"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// plug is a pseudo terminal as a serial line: the drivers' end has a path that
// stays when it is unplugged and plugged in again.
type plug struct {
	path string

	mu             sync.Mutex
	master, holder *os.File
}

// insert makes a new terminal behind the path.
func (p *plug) insert() error {
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY|unix.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	number := 0
	raw, err := master.SyscallConn()
	if err == nil {
		e := raw.Control(func(fd uintptr) {
			if err = unix.IoctlSetPointerInt(int(fd), unix.TIOCSPTLCK, 0); err == nil {
				number, err = unix.IoctlGetInt(int(fd), unix.TIOCGPTN)
			}
		})
		if err == nil {
			err = e
		}
	}
	if err != nil {
		_ = master.Close()
		return err
	}
	name := fmt.Sprintf("/dev/pts/%d", number)
	// While nobody holds the drivers' end, reading the other fails.
	holder, err := os.OpenFile(name, os.O_RDWR|unix.O_NOCTTY, 0)
	if err == nil {
		// A serial line echoes nothing.
		t, e := unix.IoctlGetTermios(int(holder.Fd()), unix.TCGETS)
		if err = e; err == nil {
			t.Iflag, t.Oflag, t.Lflag = 0, 0, 0
			err = unix.IoctlSetTermios(int(holder.Fd()), unix.TCSETS, t)
		}
	}
	if err == nil {
		next := p.path + ".next"
		_ = os.Remove(next)
		if err = os.Symlink(name, next); err == nil {
			err = os.Rename(next, p.path)
		}
	}
	if err != nil {
		_ = master.Close()
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.master, p.holder = master, holder
	return nil
}

// remove unplugs what is there.
func (p *plug) remove() {
	p.mu.Lock()
	defer p.mu.Unlock()
	_ = os.Remove(p.path) // the number may be another line's in a moment
	_ = p.master.Close()
	_ = p.holder.Close()
}

func (p *plug) end() *os.File {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.master
}

func (p *plug) Write(b []byte) (int, error) { return p.end().Write(b) }
func (p *plug) shutDown()                   { p.remove() } // a line has no halves
func (p *plug) reset()                      { p.remove() }

// servePTY carries the requests that come over a terminal, and plugs in another
// when it was unplugged.
func (g *gateway) servePTY(p *plug) {
	g.current = p
	g.running.Go(func() {
		<-g.closed
		p.remove()
	})
	g.running.Go(func() {
		for {
			g.serve(p, p.end())
			p.remove()
			g.sleep(g.dice.timeout)
			select {
			case <-g.closed:
				return
			default:
			}
			if err := p.insert(); err != nil {
				panic(err) // there were terminals a moment ago
			}
			select {
			case <-g.closed:
				p.remove()
			default:
			}
		}
	})
}
