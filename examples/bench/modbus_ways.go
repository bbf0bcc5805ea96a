package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	gb "github.com/goburrow/modbus"

	"github.com/voltageems/voltage/channel"
	"github.com/voltageems/voltage/channel/modbus"
	"github.com/voltageems/voltage/model"
)

// ways are the ways to poll. Those without an engine read one device as fast as
// it goes; the engine polls all of a group, at a rate that leaves no core idle for
// long and that the store keeps up with.
func (p *polled) ways() []way {
	return []way{
		{name: wayGoburrow, allocations: true, run: p.goburrow},
		{name: wayDriver, allocations: true, run: p.driver()},
		{name: wayPipeline, allocations: true, run: p.driver(modbus.Pipeline(8))},
		{name: wayPolled, run: p.intoRedis(1, 50*time.Millisecond)},
		{name: wayPolled10, run: p.intoRedis(10, 20*time.Millisecond)},
	}
}

// goburrow reads blocks of a device with the plain client and looks at none.
func (p *polled) goburrow(ctx context.Context, until time.Time) (registers int64, err error) {
	handler := gb.NewTCPClientHandler(p.d.Groups["1"][0])
	handler.SlaveId, handler.Timeout = 1, 5*time.Second
	if err := handler.Connect(); err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, handler.Close()) }()
	client := gb.NewClient(handler)
	for time.Now().Before(until) && ctx.Err() == nil {
		for start := 0; start < deviceRegisters; start += deviceBlock {
			data, err := client.ReadHoldingRegisters(uint16(start), deviceBlock)
			if err != nil {
				return registers, err
			}
			registers += int64(len(data) / 2)
		}
	}
	return registers, ctx.Err()
}

// driver has one channel's driver read as fast as it can.
func (p *polled) driver(opts ...modbus.Option) func(context.Context, time.Time) (int64, error) {
	return func(ctx context.Context, until time.Time) (registers int64, err error) {
		d, err := modbus.TCP(p.d.Groups["1"][0], opts...)(channel.Setup{ID: "driver", Points: polledPoints(), Scan: 1, // no pause
			Timeout: 5 * time.Second, Log: slog.New(slog.DiscardHandler), Clock: model.SystemClock})
		if err != nil {
			return 0, err
		}
		if err := d.Connect(ctx); err != nil {
			return 0, err
		}
		defer func() { err = errors.Join(err, d.Close(context.WithoutCancel(ctx))) }()
		for time.Now().Before(until) && ctx.Err() == nil {
			list, err := d.Read(ctx)
			if err != nil {
				return registers, err
			}
			for i := range list {
				if list[i].Quality != model.Good {
					return registers, fmt.Errorf("point %s is %s", list[i].Point, list[i].Quality)
				}
			}
			registers += int64(len(list)) - 1 + stampRegisters
		}
		return registers, ctx.Err()
	}
}

// intoRedis has the engine poll a group of devices.
func (p *polled) intoRedis(every int, scan time.Duration) func(context.Context, time.Time) (int64, error) {
	return func(ctx context.Context, until time.Time) (registers int64, err error) {
		if err := p.poll(every, scan); err != nil {
			return 0, err
		}
		err = sleep(ctx, time.Until(until))
		c, failed := p.counters(ctx, every) // since poll's begin
		if err := errors.Join(err, failed, p.poll(every, 0)); err != nil {
			return 0, err
		}
		if c.Lost > 0 {
			return 0, fmt.Errorf("%d changes were lost", c.Lost)
		}
		return c.Reads * deviceRegisters, nil
	}
}
