package main

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/voltageems/voltage/channel/modbus/server"
)

// The devices of the Modbus figures.
const (
	deviceCount     = 10
	deviceRegisters = 1000
	deviceBlock     = 125 // registers in one request
	stampRegisters  = 4   // the first ones: when the round was answered
)

// peerVariable tells this program that it is the devices of another one. They
// are a process of their own, so that their work is not counted as the engine's.
const peerVariable = "VOLTAGE_BENCH_DEVICES"

// device is a Modbus unit of holding registers. Each read of its first register
// begins a new generation, in which every register, or a tenth of them, has
// another value. The first four registers are the time in µs since base.
type device struct {
	base       int64 // Unix µs
	every      int   // of how many registers one changes: 1 for all
	generation atomic.Int64
}

// registerAt is the value of a register in a generation.
func (d *device) registerAt(register int, generation int64) uint16 {
	return uint16((generation + int64(register)) / int64(d.every))
}

// ReadRegisters implements server.Handler.
func (d *device) ReadRegisters(_ context.Context, _ server.Table, address uint16, dst []uint16) error {
	if int(address)+len(dst) > deviceRegisters {
		return server.IllegalAddress
	}
	if address == 0 {
		d.generation.Add(1)
	}
	generation := d.generation.Load()
	for i := range dst {
		dst[i] = d.registerAt(int(address)+i, generation)
	}
	if address == 0 && len(dst) >= stampRegisters {
		var stamp [8]byte
		binary.BigEndian.PutUint64(stamp[:], uint64(time.Now().UnixMicro()-d.base))
		for i := range stampRegisters {
			dst[i] = binary.BigEndian.Uint16(stamp[2*i:])
		}
	}
	return nil
}

// ReadBits implements server.Handler.
func (d *device) ReadBits(context.Context, server.Table, uint16, []bool) error {
	return server.IllegalAddress
}

// WriteBits implements server.Handler.
func (d *device) WriteBits(context.Context, server.Table, uint16, []bool) error {
	return server.IllegalAddress
}

// WriteRegisters implements server.Handler.
func (d *device) WriteRegisters(context.Context, server.Table, uint16, []uint16) error {
	return server.IllegalAddress
}

// peers is what the devices' process says of itself, one line of JSON.
type peers struct {
	// Groups are the devices' addresses by how much of them changes: of those of
	// "1" every register, of those of "10" every tenth.
	Groups map[string][]string `json:"groups"`
	Base   int64               `json:"base"` // Unix µs
}

// runPeer is the devices' process. It ends with its input. To each line of it,
// it answers with the CPU time that it has used, in ns.
func runPeer(ctx context.Context, in io.Reader, out io.Writer) error {
	p := peers{Groups: map[string][]string{}, Base: time.Now().UnixMicro()}
	var errs []error
	for _, every := range []int{1, 10} {
		for range deviceCount {
			s, err := server.New(server.Config{Units: map[byte]server.Handler{1: &device{base: p.Base, every: every}}})
			if err != nil {
				return err
			}
			defer func() { errs = append(errs, s.Close(ctx)) }()
			address, err := s.Listen(ctx, "127.0.0.1:0")
			if err != nil {
				return err
			}
			name := strconv.Itoa(every)
			p.Groups[name] = append(p.Groups[name], address.String())
		}
	}
	if err := json.NewEncoder(out).Encode(p); err != nil {
		return err
	}
	for lines := bufio.NewScanner(in); lines.Scan(); {
		if _, err := fmt.Fprintln(out, int64(processCPU())); err != nil {
			return err
		}
	}
	return errors.Join(errs...)
}

// devices are the devices' process, seen from the one that measures.
type devices struct {
	peers
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
}

func startDevices(ctx context.Context) (*devices, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	d := &devices{cmd: exec.CommandContext(ctx, self)}
	d.cmd.Env = append(os.Environ(), peerVariable+"=1")
	d.cmd.Stderr = os.Stderr
	if d.in, err = d.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := d.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	d.out = bufio.NewReader(out)
	if err := d.cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting the devices: %w", err)
	}
	line, err := d.out.ReadBytes('\n')
	if err == nil {
		err = json.Unmarshal(line, &d.peers)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("starting the devices: %w", err), d.stop())
	}
	return d, nil
}

// cpu returns the CPU time that the devices have used.
func (d *devices) cpu() (time.Duration, error) {
	if _, err := io.WriteString(d.in, "\n"); err != nil {
		return 0, fmt.Errorf("the devices ended: %w", err)
	}
	line, err := d.out.ReadString('\n')
	if err != nil {
		return 0, fmt.Errorf("the devices ended: %w", err)
	}
	n, err := strconv.ParseInt(strings.TrimSpace(line), 10, 64)
	return time.Duration(n), err
}

// stop ends the devices and waits for it.
func (d *devices) stop() error {
	return errors.Join(d.in.Close(), d.cmd.Wait())
}
