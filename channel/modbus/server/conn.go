package server

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"time"
)

// serveConn answers the requests of one connection until it ends.
func (s *Server) serveConn(raw net.Conn, c *client) {
	defer s.running.Done()
	in := &stampedConn{raw, stamped{in: raw}}
	conn, peer, err := s.welcome(in)
	if err != nil {
		s.denied.Add(1)
	} else {
		ctx := withPeer(s.ctx, peer)
		if s.cfg.RTU {
			err = s.exchangeRTU(ctx, &rtuLine{in: conn, out: conn, conn: conn, arrivals: &in.arrivals, gap: gapTCP, client: c})
		} else {
			err = s.exchange(ctx, conn, &in.arrivals, c)
		}
	}
	_ = conn.Close()
	s.mu.Lock()
	delete(s.conns, raw)
	s.mu.Unlock()
	if err != nil && !errors.Is(err, io.EOF) && s.ctx.Err() == nil {
		s.cfg.Logger.Info("modbus server: connection ended", "remote", peer.Addr, "error", err)
	}
}

func (s *Server) exchange(ctx context.Context, conn net.Conn, in *arrivals, c *client) error {
	r := bufio.NewReaderSize(conn, 2*maxFrame)
	var asked, out [maxFrame]byte
	for {
		// One deadline for the whole frame: a client that sends byte by byte
		// cannot hold the connection for longer than a silent one.
		if err := conn.SetReadDeadline(time.Now().Add(s.cfg.IdleTimeout)); err != nil {
			return err
		}
		f, err := readFrame(r, asked[:])
		if err != nil {
			return err
		}
		begun := time.Now()
		c.last.Store(begun.UnixNano())
		answer, act := s.answer(ctx, f, in.at, out[:0])
		if time.Since(begun) > slowRequest && r.Buffered() == 0 {
			pending(conn, func() error { _, err := r.Peek(1); return err })
		}
		if len(answer) > 0 {
			if act.Delay > 0 && !s.wait(act.Delay) {
				return ErrClosed
			}
			if answer = act.distort(answer); len(answer) > 0 {
				if err := conn.SetWriteDeadline(time.Now().Add(s.cfg.WriteTimeout)); err != nil {
					return err
				}
				if _, err := conn.Write(answer); err != nil {
					return err
				}
			}
		}
		if act.Disconnect {
			return nil
		}
	}
}

// answer executes one request, which came in at arrived, and returns the frame of its answer in dst's
// memory, together with the fault that was asked for. An ignored request has
// no answer.
func (s *Server) answer(ctx context.Context, f frame, arrived time.Time, dst []byte) ([]byte, Action) {
	s.requests.Add(1)
	req, err := decodeRequest(f.pdu)
	var act Action
	if s.cfg.Intercept != nil {
		act = s.cfg.Intercept(Request{
			Transaction: f.transaction, Unit: f.unit, Function: req.function,
			Table: req.table, Address: req.address, Quantity: req.quantity, PDU: f.pdu,
		})
	}
	if act.Ignore {
		return nil, act
	}

	s.mu.Lock()
	u := s.units[f.unit]
	s.mu.Unlock()
	out := appendHeader(dst, f.transaction, f.unit)
	switch {
	case act.Exception != 0:
		err = act.Exception
	case u == nil:
		// A gateway cannot judge a request that it cannot deliver, so this
		// comes before the findings of the decoder.
		err = GatewayTargetFailed
	case err == nil:
		out, err = run(ctx, u, req, arrived, out)
	}
	if err != nil {
		s.exceptions.Add(1)
		var e Exception
		if !errors.As(err, &e) && s.ctx.Err() == nil {
			s.cfg.Logger.Error("modbus server: handler failed", "unit", f.unit, "function", req.function,
				"address", req.address, "quantity", req.quantity, "error", err)
		}
		out = appendException(out, req.function, err)
	}
	finishFrame(out)
	return out, act
}

// run executes a request; a panic of the handler becomes an error, so that it
// costs one answer and not the process.
func run(ctx context.Context, u *unit, req request, arrived time.Time, dst []byte) (out []byte, err error) {
	defer func() {
		if p := recover(); p != nil {
			out, err = dst, fmt.Errorf("handler panicked: %v", p)
		}
	}()
	_, own := u.Handler.(MaskWriter)
	switch req.function {
	case maskWriteRegister, readWriteRegisters:
		ctx = context.WithValue(ctx, arrivalKey{}, arrived)
		if !own {
			u.writing.Lock()
			defer u.writing.Unlock()
		}
	case writeSingleCoil, writeSingleRegister, writeMultipleCoils, writeMultipleRegisters:
		ctx = context.WithValue(ctx, arrivalKey{}, arrived)
		if !own {
			u.writing.RLock()
			defer u.writing.RUnlock()
		}
	}
	return execute(ctx, u.Handler, req, dst)
}
