package simsite

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/voltageems/voltage/channel/modbus/server"
)

// StepTime is the real time between two steps of the physics.
const StepTime = 100 * time.Millisecond

// maxSpeed keeps a step of the physics short against a tick of real time.
const maxSpeed = 3600

// stopTime bounds the wait for a device's connections to end. They do not
// block, so it is not used up.
const stopTime = 5 * time.Second

// Errors of this package, to be tested with errors.Is.
var (
	// ErrConfig is returned for a configuration that cannot work.
	ErrConfig = errors.New("simulated site: invalid configuration")
	// ErrState is returned for a call that does not fit the site's state:
	// starting twice, or a device of a site that does not run.
	ErrState = errors.New("simulated site: wrong state")
	// ErrDevice is returned for a device name that is not one of [Devices].
	ErrDevice = errors.New("simulated site: unknown device")
)

// Config is the configuration of a [Site]. The zero value is valid.
type Config struct {
	// Listen is the address of the first device; the others take the ports
	// that follow, in the order of [Devices]. With port 0 every device takes a
	// free port. Empty means "127.0.0.1:0".
	Listen string
	// Seed starts the noise: the same seed gives the same run.
	Seed uint64
	// Speed is simulated time per real time, above 0 and at most 3600; all
	// physics run at it. 0 means 1.
	Speed float64
	// TimeOfDay is the simulated time at the start, since midnight. 0 means
	// 10:00; 24 h is midnight.
	TimeOfDay time.Duration
	// Ticks triggers the steps of the physics: one tick is StepTime · Speed of
	// simulated time, whenever it comes. Nil means a ticker of StepTime.
	Ticks <-chan time.Time
	// Logger takes what happens to the devices and their connections. Nil
	// means no logging.
	Logger *slog.Logger
}

// Site is a simulated site. Make it with [New]. Its methods may be called from
// several goroutines.
type Site struct {
	cfg     Config
	devices []*device

	mu    sync.Mutex // guards plant; held for one step or one request
	plant *Plant

	life    sync.Mutex // guards the following and what devices name
	started bool
	closed  bool
	stop    context.CancelFunc
	stepped chan struct{} // closed when the stepping goroutine has ended
}

// New makes a site. It does no I/O; what is wrong with the configuration is
// told by [Site.Start].
func New(cfg Config) *Site {
	if cfg.Listen == "" {
		cfg.Listen = "127.0.0.1:0"
	}
	if cfg.Speed == 0 {
		cfg.Speed = 1
	}
	if cfg.TimeOfDay == 0 {
		cfg.TimeOfDay = 10 * time.Hour
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	s := &Site{cfg: cfg, plant: NewPlant(cfg.Seed, cfg.TimeOfDay)}
	for _, name := range Devices() {
		s.devices = append(s.devices, newDevice(s, name))
	}
	return s
}

// Start binds the addresses of all devices and begins to step the physics. The
// context bounds the start only; the site runs until [Site.Close]. On an error
// nothing is left running. A site starts once.
func (s *Site) Start(ctx context.Context) error {
	s.life.Lock()
	defer s.life.Unlock()
	if s.started || s.closed {
		return fmt.Errorf("%w: started or closed before", ErrState)
	}
	if !(s.cfg.Speed > 0 && s.cfg.Speed <= maxSpeed) { // also refuses NaN
		return fmt.Errorf("%w: Speed is %v, want above 0 and at most %d", ErrConfig, s.cfg.Speed, maxSpeed)
	}
	host, base, err := splitListen(s.cfg.Listen, len(s.devices))
	if err != nil {
		return err
	}
	for i, d := range s.devices {
		port := base
		if port != 0 {
			port += i
		}
		d.addr = net.JoinHostPort(host, strconv.Itoa(port))
		if err := s.bind(ctx, d); err != nil {
			for _, other := range s.devices[:i+1] {
				err = errors.Join(err, s.unbind(other))
				other.addr = ""
			}
			return err
		}
	}
	s.started = true
	run, stop := context.WithCancel(context.Background())
	s.stop, s.stepped = stop, make(chan struct{})
	go s.run(run)
	return nil
}

// splitListen takes the base address apart. n ports must fit from its port on.
func splitListen(listen string, n int) (host string, port int, err error) {
	host, text, err := net.SplitHostPort(listen)
	if err != nil {
		return "", 0, fmt.Errorf("%w: Listen %q: %w", ErrConfig, listen, err)
	}
	port, err = strconv.Atoi(text)
	if err != nil || port < 0 || port+n-1 > 65535 {
		return "", 0, fmt.Errorf("%w: Listen %q: want a port of 0 to %d", ErrConfig, listen, 65535-n+1)
	}
	return host, port, nil
}

// run steps the physics until the context ends.
func (s *Site) run(ctx context.Context) {
	defer close(s.stepped)
	ticks := s.cfg.Ticks
	if ticks == nil {
		ticker := time.NewTicker(StepTime)
		defer ticker.Stop()
		ticks = ticker.C
	}
	for {
		select {
		case <-ctx.Done():
			return
		case _, ok := <-ticks:
			if !ok { // no more ticks: the physics stand still
				<-ctx.Done()
				return
			}
			s.Advance(time.Duration(float64(StepTime) * s.cfg.Speed))
		}
	}
}

// Close stops all devices and the physics and waits until nothing is left. It
// may be called again, also after the context ended an earlier call.
func (s *Site) Close(ctx context.Context) error {
	s.life.Lock()
	defer s.life.Unlock()
	s.closed = true
	var errs []error
	for _, d := range s.devices {
		if d.srv == nil {
			continue
		}
		if err := d.srv.Close(ctx); err != nil {
			errs = append(errs, fmt.Errorf("simulated site: device %s: %w", d.name, err))
			continue
		}
		d.srv = nil
	}
	if s.started {
		s.stop()
		select {
		case <-s.stepped:
		case <-ctx.Done():
			errs = append(errs, fmt.Errorf("simulated site: close: %w", ctx.Err()))
		}
	}
	return errors.Join(errs...)
}

// Addr returns the address of a device as host:port, also while the device is
// stopped. It is empty before the start and for an unknown name.
func (s *Site) Addr(name string) string {
	s.life.Lock()
	defer s.life.Unlock()
	if d := s.device(name); d != nil {
		return d.addr
	}
	return ""
}

// StopDevice takes a device off the network: its port is closed and its
// connections are dropped. Stopping a stopped device does nothing.
func (s *Site) StopDevice(name string) error {
	s.life.Lock()
	defer s.life.Unlock()
	d, err := s.running(name)
	if err != nil {
		return err
	}
	return s.unbind(d)
}

// StartDevice brings a stopped device back on the port that it had. It fails
// if another program took the port meanwhile. Starting a running device does
// nothing.
func (s *Site) StartDevice(name string) error {
	s.life.Lock()
	defer s.life.Unlock()
	d, err := s.running(name)
	if err != nil || d.srv != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), stopTime)
	defer cancel()
	return s.bind(ctx, d)
}

// InjectOverTemperature turns the over-temperature fault of the battery on or
// off, as its coil does.
func (s *Site) InjectOverTemperature(on bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.plant.s.BMS.OverTemperature = on
}

// Advance lets simulated time pass at once, in addition to the ticks and in
// steps of StepTime at most.
func (s *Site) Advance(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for d > 0 {
		h := min(d, StepTime)
		s.plant.Step(h)
		d -= h
	}
}

// Snapshot returns the physical state at this instant.
func (s *Site) Snapshot() Snapshot {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.plant.Snapshot()
}

func (s *Site) device(name string) *device {
	i := slices.IndexFunc(s.devices, func(d *device) bool { return d.name == name })
	if i < 0 {
		return nil
	}
	return s.devices[i]
}

// running returns a device of a site that runs.
func (s *Site) running(name string) (*device, error) {
	if !s.started || s.closed {
		return nil, fmt.Errorf("%w: device %s: the site does not run", ErrState, name)
	}
	d := s.device(name)
	if d == nil {
		return nil, fmt.Errorf("%w: %q, want one of %v", ErrDevice, name, Devices())
	}
	return d, nil
}

// bind starts the server of a device at its address and notes the bound one.
func (s *Site) bind(ctx context.Context, d *device) error {
	srv, err := server.New(server.Config{
		Units:  map[byte]server.Handler{d.unit: d},
		Logger: s.cfg.Logger.With("device", d.name),
	})
	if err != nil {
		return fmt.Errorf("simulated site: device %s: %w", d.name, err)
	}
	addr, err := srv.Listen(ctx, d.addr)
	if err != nil {
		return fmt.Errorf("simulated site: device %s: %w", d.name, err)
	}
	d.srv, d.addr = srv, addr.String()
	return nil
}

// unbind ends the server of a device, if it has one.
func (s *Site) unbind(d *device) error {
	if d.srv == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), stopTime)
	defer cancel()
	if err := d.srv.Close(ctx); err != nil {
		return fmt.Errorf("simulated site: device %s: %w", d.name, err)
	}
	d.srv = nil
	return nil
}
