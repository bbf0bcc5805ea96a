//go:build linux

package soak

import (
	"encoding/binary"
	"io"
)

const header = 7 // of Modbus TCP: transaction, protocol, length, unit

// readTCP reads one frame of Modbus TCP.
func readTCP(r io.Reader) ([]byte, error) {
	b := make([]byte, header, 260)
	if _, err := io.ReadFull(r, b); err != nil {
		return nil, err
	}
	n := int(binary.BigEndian.Uint16(b[4:])) - 1
	if n < 1 || n > 253 {
		return nil, io.ErrUnexpectedEOF
	}
	b = b[:header+n]
	_, err := io.ReadFull(r, b[header:])
	return b, err
}

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

// seal writes the checksum of a frame whose last two bytes are room for it.
func seal(b []byte) []byte {
	binary.LittleEndian.PutUint16(b[len(b)-2:], crc16(b[:len(b)-2]))
	return b
}

func sealed(b []byte) bool {
	return binary.LittleEndian.Uint16(b[len(b)-2:]) == crc16(b[:len(b)-2])
}

// requestSize returns the size of the RTU request that b begins with; 0 when
// more must be known, -1 when there is none.
func requestSize(b []byte) int {
	if len(b) < 2 {
		return 0
	}
	counted := func(at int) int {
		if len(b) <= at {
			return 0
		}
		return at + 1 + int(b[at]) + 2
	}
	switch b[1] {
	case 1, 2, 3, 4, 5, 6:
		return 8
	case 15, 16:
		return counted(6)
	case 22:
		return 10
	case 23:
		return counted(10)
	}
	return -1
}

// nextRequest cuts the first whole request off b. What is none is passed over.
func nextRequest(b []byte) (request, rest []byte) {
	for len(b) > 0 {
		n := requestSize(b)
		if n == 0 || n > len(b) {
			return nil, b
		}
		if n > 0 && sealed(b[:n]) {
			return append([]byte(nil), b[:n]...), b[n:]
		}
		b = b[1:]
	}
	return nil, nil
}

// readAnswer reads one RTU answer of the server, which makes no mistakes.
func readAnswer(r io.Reader) ([]byte, error) {
	b := make([]byte, 260)
	if _, err := io.ReadFull(r, b[:3]); err != nil {
		return nil, err
	}
	size := 8
	switch {
	case b[1] > 0x80:
		size = 5
	case b[1] <= 4 || b[1] == 23:
		size = 5 + int(b[2])
	case b[1] == 22:
		size = 10
	}
	_, err := io.ReadFull(r, b[3:size])
	return b[:size], err
}
