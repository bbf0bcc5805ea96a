//go:build linux

package soak

import (
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// proxy stands between drivers and server.
type proxy struct {
	dice     *dice
	upstream string // the server's address
	busy     atomic.Int64
	closed   chan struct{}
	running  sync.WaitGroup
	once     sync.Once
}

func (p *proxy) sleep(d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-p.closed:
	}
}

// end stops what sleeps and waits until all has ended.
func (p *proxy) end() {
	p.once.Do(func() { close(p.closed) })
	p.running.Wait()
}

// port is what a request came from and its answer goes to.
type port interface {
	io.Writer
	shutDown() // for writing
	reset()
}

// uplink is the connection of one port to the server.
type uplink struct {
	p    *proxy
	conn net.Conn
}

func (u *uplink) close() {
	if u.conn != nil {
		_ = u.conn.Close()
		u.conn = nil
	}
}

// ask returns the server's answer to a request, nil where there is none.
func (u *uplink) ask(request []byte) []byte {
	if u.conn == nil {
		c, err := net.Dial("tcp", u.p.upstream)
		if err != nil {
			return nil
		}
		u.conn = c
	}
	if _, err := u.conn.Write(request); err != nil {
		u.close()
		return nil
	}
	_ = u.conn.SetReadDeadline(time.Now().Add(10 * time.Second))
	read := readTCP
	if u.p.dice.rtu {
		read = readAnswer
	}
	answer, err := read(u.conn)
	if err != nil {
		u.close()
		return nil
	}
	return answer
}

// tell sends the server what is no request, and hangs up.
func (u *uplink) tell(b []byte) {
	if c, err := net.Dial("tcp", u.p.upstream); err == nil {
		_, _ = c.Write(b)
		_ = c.Close()
	}
}

// carry takes one request to the server and the answer back to the port, with
// what fault befalls them.
func (p *proxy) carry(request []byte, up *uplink, to port) {
	p.busy.Add(1)
	defer p.busy.Add(-1)
	f := p.dice.roll()
	switch f {
	case requestLost:
		return
	case requestLate:
		p.sleep(p.dice.lateness())
	case requestCut:
		up.tell(request[:1+p.dice.int(len(request)-1)])
		return
	case requestGarbage:
		up.tell(append(p.dice.bytes(20), request[:len(request)-1]...))
		return
	case exception:
		answer, code := p.dice.refusal(request)
		if code == 5 || code == 11 { // they leave it open whether the device acts
			if p.dice.int(2) == 0 {
				up.ask(request)
			}
		}
		_, _ = to.Write(answer)
		return
	}
	if answer := up.ask(request); answer != nil {
		p.deliver(f, answer, to)
	}
}

func (p *proxy) deliver(f fault, answer []byte, to port) {
	switch f {
	case lost:
		return
	case late:
		p.sleep(p.dice.lateness())
	case stall:
		p.sleep(p.dice.timeout * time.Duration(2+p.dice.int(8)))
	case overtaken:
		p.busy.Add(1)
		p.running.Go(func() {
			defer p.busy.Add(-1)
			p.sleep(p.dice.lateness())
			_, _ = to.Write(answer)
		})
		return
	case cut, cutAndClosed:
		answer = answer[:1+p.dice.int(len(answer)-1)]
	case split, splitLong:
		whole := answer
		for len(whole) > 1 {
			_, _ = to.Write(whole[:1])
			whole = whole[1:]
			if f == splitLong {
				p.sleep(p.dice.timeout * time.Duration(p.dice.int(8)) / 64)
			}
		}
		answer = whole
	case twice:
		answer = append(append([]byte(nil), answer...), answer...)
	case foreignUnit, wrongLength, wrongFunction, wrongTransaction, corrupt:
		answer = p.dice.forge(f, answer)
	case garbageBefore:
		answer = append(p.dice.bytes(30), answer...)
	case garbageAfter:
		answer = append(append([]byte(nil), answer...), p.dice.bytes(30)...)
	case garbageInstead:
		answer = p.dice.bytes(300)
	case halfClosed:
		to.shutDown()
		return
	case reset:
		if p.dice.int(2) == 0 {
			_, _ = to.Write(answer[:p.dice.int(len(answer))])
		}
		to.reset()
		return
	}
	_, _ = to.Write(answer)
	if f == cutAndClosed {
		to.reset()
	}
}

// tcpPort is a connection of a driver.
type tcpPort struct{ *net.TCPConn }

func (c tcpPort) shutDown() { _ = c.CloseWrite() }

func (c tcpPort) reset() {
	_ = c.SetLinger(0)
	_ = c.Close()
}

// serveTCP takes connections of drivers that speak Modbus TCP, each with a
// connection to the server of its own.
func (p *proxy) serveTCP(ln net.Listener) {
	p.accept(ln, func(c *net.TCPConn) {
		up := &uplink{p: p}
		defer up.close()
		for {
			request, err := readTCP(c)
			if err != nil {
				return
			}
			p.carry(request, up, tcpPort{c})
		}
	})
}

// accept serves each connection until the proxy ends.
func (p *proxy) accept(ln net.Listener, serve func(*net.TCPConn)) {
	p.running.Go(func() {
		<-p.closed
		_ = ln.Close()
	})
	p.running.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			p.running.Go(func() {
				done := make(chan struct{})
				defer close(done)
				p.running.Go(func() {
					select {
					case <-done:
					case <-p.closed:
					}
					_ = c.Close()
				})
				serve(c.(*net.TCPConn))
			})
		}
	})
}

// gateway is a proxy with one line behind it, on which it carries one request
// after the other. Answers go to whoever is connected when they come, as with a
// serial line.
type gateway struct {
	*proxy
	up  uplink
	bus sync.Mutex // held while a request is under way

	mu      sync.Mutex
	current port
}

func (g *gateway) Write(b []byte) (int, error) { return g.now().Write(b) }
func (g *gateway) shutDown()                   { g.now().shutDown() }
func (g *gateway) reset()                      { g.now().reset() }

func (g *gateway) now() port {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.current
}

// serve carries the requests that come from a port for as long as it is the
// current one.
func (g *gateway) serve(from port, r io.Reader) {
	room := make([]byte, 512)
	var in []byte
	for {
		n, err := r.Read(room)
		if err != nil || n == 0 {
			return
		}
		in = append(in, room[:n]...)
		for {
			var request []byte
			if request, in = nextRequest(in); request == nil {
				break
			}
			g.bus.Lock()
			if g.now() != from { // replaced meanwhile: such a gateway forgets what it had of it
				g.bus.Unlock()
				return
			}
			g.carry(request, &g.up, g)
			g.bus.Unlock()
		}
	}
}

// serveRTU takes connections of drivers that speak RTU over TCP, one at a time.
func (g *gateway) serveRTU(ln net.Listener) {
	g.accept(ln, func(c *net.TCPConn) {
		to := tcpPort{c}
		g.mu.Lock()
		if old, ok := g.current.(tcpPort); ok {
			_ = old.Close()
		}
		g.current = to
		g.mu.Unlock()
		g.serve(to, c)
	})
}
