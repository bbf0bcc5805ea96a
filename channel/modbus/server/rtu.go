package server

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"maps"
	"net"
	"slices"
	"time"
)

const (
	maxRTUFrame = 256 // unit, a PDU of 253 bytes, checksum
	maxRTUUnit  = 247
	// What is not continued within the gap is no request, or the rest of one, and
	// must not hide the next. The standard has 1.5 characters, which a system with
	// other things to do cannot tell; networks pause for longer.
	gapSerial = 50 * time.Millisecond
	gapTCP    = time.Second
)

// ServeRTU answers the requests that come over a serial line, or over anything
// else that carries RTU frames, until it ends or the server closes; the line is
// closed then. A request to unit 0 is carried out by all units, and answered by
// none; a unit without a handler is silent, and so are its requests and the answers
// of other devices on the line to theirs. Bytes that are no frame are passed over.
//
// RTU has no transaction ids, so a master takes what comes for the answer to what
// it sent last. Where it sent something else while a request was carried out, the
// answer is left out; of several requests that came meanwhile, the last is carried
// out, for it has given up on the others. The error is nil when the line ended, and [ErrClosed] when the server
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
	in := &stamped{in: line}
	err := s.exchangeRTU(withPeer(s.ctx, Peer{Serial: true}), &rtuLine{in: in, out: line, arrivals: &in.arrivals, gap: gapSerial})
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

// exchangeRTU answers what comes over a line.
func (s *Server) exchangeRTU(ctx context.Context, l *rtuLine) error {
	var out [maxFrame]byte
	var rtu [maxRTUFrame]byte
	for {
		// One deadline for the whole request, as with Modbus TCP.
		if l.conn != nil {
			if err := l.conn.SetReadDeadline(time.Now().Add(s.cfg.IdleTimeout)); err != nil {
				return err
			}
		}
		f, err := l.next(s.known)
		if err != nil {
			return err
		}
		if l.client != nil {
			l.client.last.Store(time.Now().UnixNano())
		}
		if ended, err := s.reply(ctx, l, f, out[:0], rtu[:0]); ended || err != nil {
			return err
		}
	}
}

func (s *Server) known(id byte) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, ok := s.units[id]
	return ok
}

// rtuLine takes requests out of what comes over a line.
type rtuLine struct {
	in   io.Reader
	out  io.Writer
	conn net.Conn // where the time limits of connections hold, else nil
	*arrivals
	gap    time.Duration
	client *client // with conn
	room   [4 * maxRTUFrame]byte
	echo   echo // of serial lines
	n      int  // how much of it is read and not yet used
	frame  [maxRTUFrame]byte
}

// read reads more. What was begun too long ago to be continued goes.
func (l *rtuLine) read() error {
	before, n := l.empty, l.n
	k, err := l.in.Read(l.room[n:])
	l.n += k
	if n > 0 && k > 0 && l.at.Sub(before) > l.gap {
		l.use(n)
	}
	if err == nil && k == 0 {
		err = io.EOF // an unplugged line
	}
	return err
}

// use drops the first bytes.
func (l *rtuLine) use(n int) { l.n = copy(l.room[:], l.room[n:l.n]) }

// next returns the next request for a unit that is known, or for all.
func (l *rtuLine) next(known func(byte) bool) (frame, error) {
	for {
		copied, more, err := l.echo.check(l.room[:l.n])
		if err != nil {
			return frame{}, err
		}
		l.use(copied)
		f, size := nextRTU(l.room[:l.n], known)
		switch {
		case size == 0 || more:
			if err := l.read(); err != nil {
				return frame{}, err
			}
			continue
		case f.pdu == nil:
			l.use(size)
			continue
		}
		f.pdu = l.frame[:copy(l.frame[:], f.pdu)]
		l.use(size)
		if f.unit == 0 || time.Since(l.at) < slowRequest || !l.another(known) {
			return f, nil
		}
	}
}

// another reports whether there is another request, also for another device.
func (l *rtuLine) another(known func(byte) bool) bool {
	for b := l.room[:l.n]; ; {
		f, size := nextRTU(b, known)
		switch {
		case f.pdu != nil, size > 1:
			return true
		case size == 0:
			return false
		}
		b = b[size:]
	}
}

// reply carries out one request and answers it. It reports whether the
// connection is to end.
func (s *Server) reply(ctx context.Context, line *rtuLine, f frame, dst, rtu []byte) (ended bool, err error) {
	arrived := line.at
	if f.unit == 0 {
		s.mu.Lock()
		all := slices.Sorted(maps.Keys(s.units))
		s.mu.Unlock()
		for _, u := range all {
			s.answer(ctx, frame{unit: u, pdu: f.pdu}, arrived, dst)
		}
		return false, nil
	}
	begun := time.Now()
	answer, act := s.answer(ctx, f, arrived, dst)
	if time.Since(begun) > slowRequest && (line.another(s.known) || pending(line.out, line.read)) {
		return act.Disconnect, nil
	}
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
		if line.conn != nil {
			if err := line.conn.SetWriteDeadline(time.Now().Add(s.cfg.WriteTimeout)); err != nil {
				return true, err
			}
		}
		if _, err := line.out.Write(rtu); err != nil {
			return true, err
		}
		if line.conn == nil {
			line.echo.answered(rtu)
		}
	}
	return act.Disconnect, nil
}

// nextRTU returns the request with which b begins and its size. Without a PDU
// it is bytes to pass over, such as what other devices of the line are asked and
// answer; a size of 0 means that more must come.
func nextRTU(b []byte, known func(byte) bool) (frame, int) {
	mine := len(b) > 0 && (b[0] == 0 || known(b[0]))
	wait := false
	for _, length := range [...]func([]byte) int{requestLength, answerLength} {
		n := length(b)
		switch {
		case n == 0 || n > len(b):
			wait = true
		case n > 0 && binary.LittleEndian.Uint16(b[n-2:]) == crc16(b[:n-2]):
			if !mine {
				return frame{}, n
			}
			return frame{unit: b[0], pdu: b[1 : n-2]}, n
		}
		if mine {
			break
		}
	}
	if wait {
		return frame{}, 0
	}
	return frame{}, 1
}

// answerLength returns how long the answer of a device is that b begins with: 0 if
// more of it must be known for that, -1 if none begins so.
func answerLength(b []byte) int {
	switch {
	case len(b) > 0 && b[0] > maxRTUUnit:
		return -1
	case len(b) < 4:
		return 0
	case b[1] > 0x80:
		return 5
	}
	n := -1
	switch b[1] {
	case readCoils, readDiscreteInputs, readHoldingRegisters, readInputRegisters, readWriteRegisters, 12, 17:
		n = 5 + int(b[2])
	case writeSingleCoil, writeSingleRegister, writeMultipleCoils, writeMultipleRegisters, 8, 11:
		n = 8
	case maskWriteRegister:
		n = 10
	case readFIFOQueue:
		n = 6 + int(binary.BigEndian.Uint16(b[2:]))
	case 7: // status
		n = 5
	}
	if n > maxRTUFrame {
		return -1
	}
	return n
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
