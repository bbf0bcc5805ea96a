package server

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// specimen holds the values of the examples in the Modbus Application Protocol
// V1.1b3, section 6.
func specimen() *Memory {
	m := &Memory{}
	bits := func(table Table, address uint16, n int, packed ...byte) {
		for i := range n {
			m.SetBits(table, address+uint16(i), packed[i/8]&(1<<(i%8)) != 0)
		}
	}
	bits(Coil, 19, 19, 0xCD, 0x6B, 0x05)
	bits(DiscreteInput, 196, 22, 0xAC, 0xDB, 0x35)
	bits(Coil, 172, 1, 0)
	m.SetRegisters(HoldingRegister, 107, 0x022B, 0x0000, 0x0064)
	m.SetRegisters(InputRegister, 8, 0x000A)
	m.SetRegisters(HoldingRegister, 1, 0, 0)
	m.SetRegisters(HoldingRegister, 3, 0x00FE, 0x0012, 1, 3, 0x000D, 0x00FF)
	m.SetRegisters(HoldingRegister, 14, 0, 0, 0)
	m.SetFIFO(0x04DE, 0x01B8, 0x1284)
	return m
}

func answerPDU(t *testing.T, h Handler, pdu []byte) []byte {
	t.Helper()
	req, err := decodeRequest(pdu)
	var out []byte
	if err == nil {
		out, err = execute(context.Background(), h, req, nil)
	}
	if err != nil {
		out = appendException(nil, req.function, err)
	}
	return out
}

func TestPDUExamplesOfTheSpecification(t *testing.T) {
	t.Parallel()
	for request, want := range map[string]string{
		"01 0013 0013":               "01 03 CD6B05",
		"02 00C4 0016":               "02 03 ACDB35",
		"03 006B 0003":               "03 06 022B 0000 0064",
		"04 0008 0001":               "04 02 000A",
		"05 00AC FF00":               "05 00AC FF00",
		"06 0001 0003":               "06 0001 0003",
		"0F 0013 000A 02 CD01":       "0F 0013 000A",
		"10 0001 0002 04 000A 0102":  "10 0001 0002",
		"05 00AC 0000":               "05 00AC 0000",
		"01 0013 0001":               "01 01 01",
		"03 006B 0004":               "83 02", // one register too far
		"06 000D 0001":               "86 02",
		"05 00AD FF00":               "85 02",
		"0F 00AC 0002 01 03":         "8F 02",
		"10 0010 0002 04 0001 0002":  "90 02",
		"05 00AC 0001":               "85 03", // neither on nor off
		"05 00AC FF":                 "85 03",
		"05 00AC FF00 00":            "85 03",
		"06 0001 000300":             "86 03",
		"01 0013 0000":               "81 03",
		"01 0013 07D1":               "81 03",
		"02 0013 07D1":               "82 03",
		"03 006B 0000":               "83 03",
		"03 006B 007E":               "83 03",
		"04 006B 007E":               "84 03",
		"04 0008 0001 00":            "84 03",
		"03":                         "83 03",
		"03 006B 00":                 "83 03",
		"0F 0013 0000 00":            "8F 03",
		"0F 0013 000A 01 CD":         "8F 03",
		"0F 0013 000A 02 CD":         "8F 03",
		"0F 0013 000A 03 CD0100":     "8F 03",
		"0F 0013 000A":               "8F 03",
		"10 0001 0000 00":            "90 03",
		"10 0001 0002 04 000A 01":    "90 03",
		"10 0001 0002 03 000A 0102":  "90 03",
		"10 0001 0002 04 000A010203": "90 03",
		"03 FFFF 0002":               "83 02", // past 65535
		"10 FFFF 0002 04 0000 0000":  "90 02",
		"07":                         "87 01",
		"00 0000 0001":               "80 01",
		"83 0000 0001":               "83 01",
		"2B 0E 01 00":                "AB 01",
		"16 0004 00F2 0025":          "16 0004 00F2 0025",
		"16 0009 00F2 0025":          "96 02",
		"16 0004 00F2 00":            "96 03",
		"16 0004 00F2 0025 00":       "96 03",
		"16 0004":                    "96 03",
		"18 04DE":                    "18 0006 0002 01B8 1284",
		"18 04DF":                    "98 02",
		"18 04":                      "98 03",
		"18 04DE 0001":               "98 03",
		"17 0003 0006 000E 0003 06 00FF 00FF 00FF":      "17 0C 00FE 0012 0001 0003 000D 00FF",
		"17 000E 0003 000F 0001 02 1234":                "17 06 0000 1234 0000", // it writes first
		"17 0003 0007 000E 0001 02 00FF":                "97 02",                // cannot be read
		"17 0003 0006 000E 0004 08 0000 0000 0000 0000": "97 02",                // cannot be written
		"17 0003 0006 000E 0001 02":                     "97 03",
		"17 0003 0006 000E 0001 02 00":                  "97 03",
		"17 0003 0006 000E 0001 04 0000":                "97 03",
		"17 0003 0006 000E 0001 02 0000 0000":           "97 03",
		"17 0003 0006 000E 0000 00":                     "97 03",
		"17 0003 0000 000E 0001 02 0000":                "97 03",
		"17 0003 007E 000E 0001 02 0000":                "97 03",
		"17 0003 0006 000E 0001":                        "97 03",
		"17 FFFF 0002 000E 0001 02 0000":                "97 02",
		"17 0003 0006 FFFF 0002 04 0000 0000":           "97 02",
	} {
		t.Run(request, func(t *testing.T) {
			t.Parallel()
			got := answerPDU(t, specimen(), unhex(t, request))
			assert.Equal(t, hex.EncodeToString(unhex(t, want)), hex.EncodeToString(got))
		})
	}
}

func TestPDUQuantityLimits(t *testing.T) {
	t.Parallel()
	m := &Memory{}
	m.SetBits(Coil, 0, make([]bool, 2000)...)
	m.SetBits(DiscreteInput, 0, make([]bool, 2000)...)
	m.SetRegisters(HoldingRegister, 0, make([]uint16, 125)...)
	m.SetRegisters(InputRegister, 0, make([]uint16, 125)...)
	for function, limit := range map[byte]uint16{
		readCoils: 2000, readDiscreteInputs: 2000, readHoldingRegisters: 125, readInputRegisters: 125,
		writeMultipleCoils: 1968, writeMultipleRegisters: 123, readWriteRegisters: 121,
	} {
		for _, q := range []uint16{limit, limit + 1} {
			pdu := binary.BigEndian.AppendUint16([]byte{function, 0, 0}, q)
			switch function {
			case writeMultipleCoils:
				pdu = append(append(pdu, byte((q+7)/8)), make([]byte, (q+7)/8)...)
			case writeMultipleRegisters:
				pdu = append(append(pdu, byte(2*q)), make([]byte, 2*q)...)
			case readWriteRegisters: // the quantity is that of the write, beside the longest read
				pdu = append([]byte{function, 0, 0, 0, 125}, pdu[1:]...)
				pdu = append(append(pdu, byte(2*q)), make([]byte, 2*q)...)
			}
			got := answerPDU(t, m, pdu)
			if q == limit {
				assert.Equal(t, function, got[0], "FC %d, quantity %d", function, q)
			} else {
				assert.Equal(t, []byte{function | 0x80, 3}, got, "FC %d, quantity %d", function, q)
			}
			assert.LessOrEqual(t, len(got), 253)
		}
	}
}

func TestWritesReachTheHandler(t *testing.T) {
	t.Parallel()
	m := specimen()
	answerPDU(t, m, unhex(t, "0F 0013 000A 02 CD01"))
	for i, want := range []bool{true, false, true, true, false, false, true, true, true, false} {
		got, ok := m.Bit(Coil, 19+uint16(i))
		assert.True(t, ok)
		assert.Equal(t, want, got, "coil %d", 19+i)
	}
	answerPDU(t, m, unhex(t, "10 0001 0002 04 000A 0102"))
	got, ok := m.Register(HoldingRegister, 2)
	assert.True(t, ok)
	assert.Equal(t, uint16(0x0102), got)

	answerPDU(t, m, unhex(t, "16 0004 00F2 0025"))
	got, _ = m.Register(HoldingRegister, 4)
	assert.Equal(t, uint16(0x17), got, "the example of the specification")
	answerPDU(t, m, unhex(t, "17 0003 0006 000E 0003 06 00FF 00FE 00FD"))
	got, _ = m.Register(HoldingRegister, 16)
	assert.Equal(t, uint16(0xFD), got)
	answerPDU(t, m, unhex(t, "17 0003 0007 000E 0001 02 7777"))
	got, _ = m.Register(HoldingRegister, 14)
	assert.Equal(t, uint16(0xFF), got, "what cannot be read leaves no write behind")

	// A refused write changes nothing, not even the addresses that exist.
	answerPDU(t, m, unhex(t, "10 0010 0002 04 7777 7777"))
	got, _ = m.Register(HoldingRegister, 16)
	assert.Equal(t, uint16(0xFD), got)
	_, ok = m.Register(HoldingRegister, 17)
	assert.False(t, ok)
}

func TestExceptionOfHandlerErrors(t *testing.T) {
	t.Parallel()
	assert.Equal(t, Exception(6), exceptionOf(fmt.Errorf("busy: %w", Exception(6))))
	assert.Equal(t, DeviceFailure, exceptionOf(errors.New("broken")))
	assert.Equal(t, DeviceFailure, exceptionOf(Exception(0)))
	assert.Equal(t, DeviceFailure, exceptionOf(Exception(200)))
	assert.Contains(t, IllegalAddress.Error(), "02 (illegal data address)")
}

func TestFIFO(t *testing.T) {
	t.Parallel()
	m := &Memory{}
	m.SetFIFO(1)
	m.SetFIFO(2, make([]uint16, 31)...)
	m.SetFIFO(3, make([]uint16, 32)...)
	assert.Equal(t, []byte{24, 0, 2, 0, 0}, answerPDU(t, m, []byte{24, 0, 1}))
	assert.Len(t, answerPDU(t, m, []byte{24, 0, 2}), 5+62)
	assert.Equal(t, []byte{0x98, 3}, answerPDU(t, m, []byte{24, 0, 3}))
	assert.Equal(t, []byte{0x98, 1}, answerPDU(t, struct{ Handler }{m}, []byte{24, 0, 1}), "a handler without queues")
}

func TestMemoryEndsAtTheLastAddress(t *testing.T) {
	t.Parallel()
	m := &Memory{}
	m.SetRegisters(InputRegister, 0xFFFF, 1, 2)
	v, ok := m.Register(InputRegister, 0xFFFF)
	assert.True(t, ok)
	assert.Equal(t, uint16(1), v)
	_, ok = m.Register(InputRegister, 0)
	assert.False(t, ok)
}

// FuzzRequest feeds whole streams of frames: whatever comes in, the decoder
// does not panic, answers fit a frame, and each belongs to its request.
func FuzzRequest(f *testing.F) {
	for _, s := range []string{
		"0001 0000 0006 01 03 006B 0003", "0001 0000 0006 01 01 0013 0013",
		"0002 0000 0009 01 0F 0013 000A 02 CD01", "0003 0000 000B 01 10 0001 0002 04 000A 0102",
		"0008 0000 0008 01 16 0004 00F2 0025", "0009 0000 0011 01 17 0003 0006 000E 0003 06 00FF 00FF 00FF", "000A 0000 0004 01 18 04DE",
		"0004 0001 0006 01 06 0001 0003", "0005 0000 0001 01", "0006 0000 00FF 01", "0007 0000 0002 01 2B",
	} {
		b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
		require.NoError(f, err)
		f.Add(b)
	}
	s, err := New(Config{Units: map[byte]Handler{1: specimen()}})
	require.NoError(f, err)
	f.Fuzz(func(t *testing.T, stream []byte) {
		var in, out [maxFrame]byte
		r := bytes.NewReader(stream)
		for {
			fr, err := readFrame(r, in[:])
			if err != nil {
				return
			}
			require.GreaterOrEqual(t, len(fr.pdu), 1)
			answer, _ := s.answer(context.Background(), fr, time.Time{}, out[:0])
			require.GreaterOrEqual(t, len(answer), headerSize+2)
			require.LessOrEqual(t, len(answer), maxFrame)
			require.Equal(t, len(answer)-headerSize+1, int(binary.BigEndian.Uint16(answer[4:])))
			require.Equal(t, fr.transaction, binary.BigEndian.Uint16(answer))
			require.Equal(t, fr.unit, answer[6])
			require.Equal(t, fr.pdu[0]|0x80, answer[7]|0x80)
			if req, err := decodeRequest(fr.pdu); err == nil {
				require.LessOrEqual(t, int(req.address)+int(req.quantity), 0x10000)
				require.Equal(t, req.function != readFIFOQueue, req.quantity > 0)
				require.LessOrEqual(t, int(req.written)+len(req.data)/2, 0x10000)
			}
		}
	})
}

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	require.NoError(t, err)
	return b
}
