package server

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// Sizes of a Modbus TCP frame: a 7-byte header (transaction id, protocol id,
// length, unit id) and a PDU of 1 to 253 bytes. The length field counts the
// unit id and the PDU.
const (
	headerSize = 7
	minLength  = 2
	maxLength  = 254
	maxFrame   = headerSize - 1 + maxLength
)

// errFraming is a frame that is not Modbus TCP. The position of the next frame
// is unknown then, so the connection ends.
var errFraming = errors.New("not a Modbus TCP frame")

// frame is one request as it came over the connection. pdu aliases the buffer
// that it was read into.
type frame struct {
	transaction uint16
	unit        byte
	pdu         []byte
}

// readFrame reads one frame into buf, which holds at least maxFrame bytes.
// io.EOF means that the peer closed between two frames.
func readFrame(r io.Reader, buf []byte) (frame, error) {
	head := buf[:headerSize]
	if _, err := io.ReadFull(r, head); err != nil {
		return frame{}, err
	}
	protocol := binary.BigEndian.Uint16(head[2:])
	if protocol != 0 {
		return frame{}, fmt.Errorf("%w: protocol id %d, want 0", errFraming, protocol)
	}
	length := int(binary.BigEndian.Uint16(head[4:]))
	if length < minLength || length > maxLength {
		return frame{}, fmt.Errorf("%w: length %d, want %d..%d", errFraming, length, minLength, maxLength)
	}
	pdu := buf[headerSize : headerSize-1+length]
	if _, err := io.ReadFull(r, pdu); err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return frame{}, err
	}
	return frame{transaction: binary.BigEndian.Uint16(head), unit: head[6], pdu: pdu}, nil
}

// appendHeader appends a header whose length is set by finishFrame.
func appendHeader(dst []byte, transaction uint16, unit byte) []byte {
	dst = binary.BigEndian.AppendUint16(dst, transaction)
	return append(dst, 0, 0, 0, 0, unit)
}

// finishFrame writes the length of a complete frame into its header.
func finishFrame(f []byte) {
	binary.BigEndian.PutUint16(f[4:], uint16(len(f)-headerSize+1))
}
