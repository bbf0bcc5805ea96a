package server

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"time"
)

const (
	maxRTUFrame = 256 // unit, a PDU of 253 bytes, checksum
	maxRTUUnit  = 247
)

// ServeRTU answers the requests that come over a serial line, or over anything
// else that carries RTU frames, until it ends or the server closes; the line is
// closed then. A request to unit 0 is carried out by all units, and answered by
// none; a unit without a handler is silent. Bytes that are no frame are passed
// over. The error is nil when the line ended, and [ErrClosed] when the server
// closed.
func (s *Server) ServeRTU(line io.ReadWriteCloser) error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		_ = line.Close()
		return ErrClosed
	}
	s.running.Add(1)
	s.mu.Unlock()
	defer s.running.Done()
	stop := context.AfterFunc(s.ctx, func() { _ = line.Close() })
	err := s.exchangeRTU(withPeer(s.ctx, Peer{Serial: true}), line, nil)
	if stop() {
		_ = line.Close()
	}
	switch {
	case s.ctx.Err() != nil:
		return ErrClosed
	case errors.Is(err, io.EOF):
		return nil
	}
	return err
}

// exchangeRTU answers what comes over a line. limited is the line again where
// the time limits of connections hold for it, else nil.
func (s *Server) exchangeRTU(ctx context.Context, line io.ReadWriter, limited net.Conn) error {
	var room [4 * maxRTUFrame]byte
	var out [maxFrame]byte
	var rtu [maxRTUFrame]byte
	in := room[:0]
	for {
		if limited != nil && len(in) == 0 {
			if err := limited.SetReadDeadline(time.Now().Add(s.cfg.IdleTimeout)); err != nil {
				return err
			}
		}
		n, err := line.Read(room[len(in):cap(in)])
		in = room[:len(in)+n]
		for {
			f, size := nextRTU(in)
			if size == 0 {
				break
			}
			if f.pdu != nil {
				if limited != nil {
					if err := limited.SetWriteDeadline(time.Now().Add(s.cfg.WriteTimeout)); err != nil {
						return err
					}
				}
				if ended, err := s.reply(ctx, line, f, out[:0], rtu[:0]); ended || err != nil {
					return err
				}
			}
			in = room[:copy(room[:], in[size:])]
		}
		switch {
		case err != nil:
			return err
		case n == 0:
			return io.EOF // an unplugged line
		}
	}
}

// reply carries out one request and answers it. It reports whether the
// connection is to end.
func (s *Server) reply(ctx context.Context, line io.Writer, f frame, dst, rtu []byte) (ended bool, err error) {
	s.mu.Lock()
	_, known := s.units[f.unit]
	var all []byte
	if f.unit == 0 {
		for u := range s.units {
			all = append(all, u)
		}
	}
	s.mu.Unlock()
	if f.unit == 0 {
		for _, u := range all {
			s.answer(ctx, frame{unit: u, pdu: f.pdu}, dst)
		}
		return false, nil
	}
	if !known {
		return false, nil
	}
	answer, act := s.answer(ctx, f, dst)
	if len(answer) == 0 {
		return act.Disconnect, nil
	}
	if act.Delay > 0 && !s.wait(act.Delay) {
		return true, ErrClosed
	}
	act.WrongTransaction = false
	rtu = append(rtu, answer[headerSize-1:]...)
	rtu = binary.LittleEndian.AppendUint16(rtu, crc16(rtu))
	if rtu = act.distort(rtu); len(rtu) > 0 {
		if _, err := line.Write(rtu); err != nil {
			return true, err
		}
	}
	return act.Disconnect, nil
}

// nextRTU returns the request with which b begins and its size. Without a PDU
// it is bytes to pass over; a size of 0 means that more must come.
func nextRTU(b []byte) (frame, int) {
	n := requestLength(b)
	if n == 0 || n > len(b) {
		return frame{}, 0
	}
	if n < 0 || binary.LittleEndian.Uint16(b[n-2:]) != crc16(b[:n-2]) {
		return frame{}, 1
	}
	return frame{unit: b[0], pdu: b[1 : n-2]}, n
}

// requestLength returns how long the request is that b begins with: 0 if more
// of it must be known for that, -1 if no request begins so.
func requestLength(b []byte) int {
	counted := func(at int) int { // a byte count, then so many bytes
		if len(b) <= at {
			return 0
		}
		if n := at + 1 + int(b[at]) + 2; n <= maxRTUFrame {
			return n
		}
		return -1
	}
	switch {
	case len(b) > 0 && b[0] > maxRTUUnit:
		return -1
	case len(b) < 2:
		return 0
	}
	switch b[1] {
	case readCoils, readDiscreteInputs, readHoldingRegisters, readInputRegisters, writeSingleCoil, writeSingleRegister:
		return 8
	case writeMultipleCoils, writeMultipleRegisters:
		return counted(6)
	case 7, 11, 12, 17: // of serial lines only: status and diagnostics without data
		return 4
	case 8: // diagnostics with one word
		return 8
	case maskWriteRegister:
		return 10
	case readWriteRegisters:
		return counted(10)
	case readFIFOQueue:
		return 6
	}
	return -1
}

// crc16 is the checksum of an RTU frame; its low byte travels first.
func crc16(b []byte) uint16 {
	sum := uint16(0xFFFF)
	for _, v := range b {
		sum ^= uint16(v)
		for range 8 {
			if sum&1 != 0 {
				sum = sum>>1 ^ 0xA001
			} else {
				sum >>= 1
			}
		}
	}
	return sum
}
