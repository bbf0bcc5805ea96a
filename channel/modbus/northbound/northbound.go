package northbound

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"runtime/debug"
	"sync"
	"time"

	"github.com/voltageems/voltage/channel"
	"github.com/voltageems/voltage/channel/modbus"
	"github.com/voltageems/voltage/channel/modbus/server"
	"github.com/voltageems/voltage/model"
)

// TCP returns the factory of a server that speaks Modbus TCP. listen is
// host:port, such as "127.0.0.1:1502"; for more than loopback it needs Allow. See TLS for clients with certificates.
func TCP(listen string, m Map, opts ...Option) channel.ServerFactory {
	return network(listen, m, opts, false)
}

// RTUOverTCP is TCP for clients that send RTU frames over TCP.
func RTUOverTCP(listen string, m Map, opts ...Option) channel.ServerFactory {
	return network(listen, m, opts, true)
}

func network(listen string, m Map, opts []Option, rtu bool) channel.ServerFactory {
	maxUnit := 255
	if rtu {
		maxUnit = maxRTUUnit
	}
	return factory(m, opts, maxUnit, func(o *options) error {
		if len(o.serial) > 0 {
			return fmt.Errorf("%w: baud, parity and stop bits belong to serial lines", model.ErrInvalid)
		}
		if o.tls != nil {
			return errors.Join(o.checkListen(listen), o.tls.check())
		}
		return o.checkListen(listen)
	}, func(ctx context.Context, s *serving) error { return s.serveNetwork(ctx, listen, rtu) })
}

// RTU returns the factory of a server that answers on the serial line at device,
// such as /dev/ttyUSB0, as one or several units. See Line. Serial lines need
// Linux.
func RTU(device string, m Map, opts ...Option) channel.ServerFactory {
	return factory(m, opts, maxRTUUnit, func(o *options) error {
		if len(o.allow) > 0 {
			return fmt.Errorf("%w: allow: a serial line has no addresses", model.ErrInvalid)
		}
		return modbus.CheckSerial(device, o.serial...)
	}, func(ctx context.Context, s *serving) error { return s.serveSerial(ctx, device) })
}

const maxRTUUnit = 247

func factory(m Map, opts []Option, maxUnit int, check func(*options) error, serve func(context.Context, *serving) error) channel.ServerFactory {
	return func(setup channel.ServerSetup) (channel.Server, error) {
		o := newOptions(opts)
		l, err := m.compile(maxUnit)
		errs := []error{check(&o), o.check(), err}
		if !model.PlainText(origin(setup.ID), 64) {
			errs = append(errs, fmt.Errorf("%w: id %s: want at most %d characters, for the origin of commands has it", model.ErrInvalid, setup.ID, 64-len(origin(""))))
		}
		if err := errors.Join(errs...); err != nil {
			return nil, err
		}
		return &front{setup: setup, opts: o, layout: l, serve: serve}, nil
	}
}

// front implements channel.Server.
type front struct {
	setup  channel.ServerSetup
	opts   options
	layout *layout
	serve  func(context.Context, *serving) error
}

// serving is one run of a front.
type serving struct {
	id        string
	opts      options
	log       *slog.Logger
	quiet     *slog.Logger // for what a client can cause at will
	clock     model.Clock
	north     channel.Northbound
	image     *image
	refresher *refresher
	gate      gate
}

// endTime is what everything that runs has to end.
const endTime = 800 * time.Millisecond

// Serve implements channel.Server.
func (f *front) Serve(ctx context.Context, n channel.Northbound) error {
	s := &serving{id: f.setup.ID, opts: f.opts, log: f.setup.Log, clock: f.setup.Clock, north: n}
	s.quiet = quiet(s.log)
	s.image = newImage(f.layout, f.opts, s.clock.Now)
	s.refresher = newRefresher(s.image, n, f.setup)
	return f.serve(ctx, s)
}

func (s *serving) serveNetwork(ctx context.Context, listen string, rtu bool) error {
	var lc net.ListenConfig
	ln, err := lc.Listen(ctx, "tcp", listen)
	if err != nil {
		return err
	}
	cfg := server.Config{RTU: rtu, MaxConns: s.opts.connections, Allow: s.opts.prefixes}
	if s.opts.tls != nil {
		cfg.TLS, err = s.opts.tls.config()
	}
	var srv *server.Server
	if err == nil {
		srv, err = s.server(cfg)
	}
	if err != nil {
		_ = ln.Close()
		return err
	}
	s.log.Info("serving Modbus", "address", ln.Addr())
	if s.opts.bound != nil {
		s.opts.bound(ln.Addr())
	}
	return s.run(ctx, srv, func() error { return srv.Serve(ln) })
}

func (s *serving) serveSerial(ctx context.Context, device string) error {
	line, err := modbus.OpenSerial(ctx, device, s.opts.serial...)
	if err != nil {
		return err
	}
	srv, err := s.server(server.Config{})
	if err != nil {
		_ = line.Close()
		return err
	}
	s.log.Info("serving Modbus", "device", device)
	return s.run(ctx, srv, func() error {
		if err := srv.ServeRTU(line); err != nil {
			return err
		}
		return fmt.Errorf("%s: the line is gone: %w", device, io.EOF)
	})
}

func (s *serving) server(c server.Config) (*server.Server, error) {
	c.Logger, c.Units = s.quiet, map[byte]server.Handler{}
	for id, tables := range s.image.layout.units {
		c.Units[id] = unit{s, tables}
	}
	return server.New(c)
}

// run serves until ctx ends or answer returns, and then ends everything.
func (s *serving) run(ctx context.Context, srv *server.Server, answer func() error) error {
	run, cancel := context.WithCancel(ctx)
	defer cancel()
	var work sync.WaitGroup
	ends := make(chan error, 3)
	begin := func(part func() error) { work.Go(func() { ends <- s.contain(part) }) }
	begin(answer)
	begin(func() error { return s.north.Watch(run, func(u model.Update) { s.refresher.changed(u.Model) }) })
	begin(func() error { s.refresher.run(run); return nil })
	var err error
	select {
	case <-ctx.Done():
	case err = <-ends:
	}
	cancel()
	end, give := context.WithTimeout(context.WithoutCancel(ctx), endTime)
	defer give()
	closed := srv.Close(end)
	ended := make(chan struct{})
	go func() {
		work.Wait()
		close(ended)
	}()
	select {
	case <-ended:
	case <-end.Done():
		closed = errors.Join(closed, errors.New("a call to the store does not return"))
	}
	if ctx.Err() != nil {
		return closed
	}
	return errors.Join(err, closed)
}

// contain makes an error of a panic: the engine runs the server again.
func (s *serving) contain(part func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			s.log.Error("panic contained", "panic", p, "stack", string(debug.Stack()))
			err = fmt.Errorf("it panicked: %v", p)
		}
	}()
	return part()
}
