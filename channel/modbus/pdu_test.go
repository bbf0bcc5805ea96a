package modbus

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"testing"

	gb "github.com/goburrow/modbus"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/voltageems/voltage/channel"
)

func TestWriteRequests(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		address  string
		raw      float64
		multiple bool
		function byte
		data     string
	}{
		{"coil:172", 1, false, 5, "00 AC FF 00"},
		{"coil:172", 0, false, 5, "00 AC 00 00"},
		{"coil:172", 1, true, 15, "00 AC 00 01 01 01"},
		{"coil:172", 0, true, 15, "00 AC 00 01 01 00"},
		{"holding:1:int16", -2, false, 6, "00 01 FF FE"},
		{"holding:1:uint16:BA", 3, false, 6, "00 01 03 00"},
		{"holding:1:int16", -2, true, 16, "00 01 00 01 02 FF FE"},
		{"holding:1:uint32", 0x01020304, false, 16, "00 01 00 02 04 01 02 03 04"},
		{"holding:1:uint32:CDAB", 0x01020304, true, 16, "00 01 00 02 04 03 04 01 02"},
		{"holding:1:float64", 123.456, false, 16, "00 01 00 04 08 40 5E DD 2F 1A 9F BE 77"},
	} {
		function, data, err := appendWrite(nil, mustParse(t, c.address), c.raw, c.multiple)
		require.NoError(t, err, "%+v", c)
		assert.Equal(t, c.function, function, "%+v", c)
		assert.Equal(t, unhex(t, c.data), data, "%+v", c)
	}
	mask, value, err := mustParse(t, "holding:4:bits2-3").encodePart(2)
	require.NoError(t, err)
	assert.Equal(t, unhex(t, "00 04 FF F3 00 08"), appendMask(nil, 4, mask, value))
	data, err := appendReadWrite(nil, mustParse(t, "holding:258:int32:CDAB"), 0x01020304)
	require.NoError(t, err)
	assert.Equal(t, unhex(t, "01 02 00 02 01 02 00 02 04 03 04 01 02"), data)
	for _, s := range []string{"input:1", "discrete:1", "holding:1:bit3"} {
		_, _, err := appendWrite(nil, mustParse(t, s), 1, false)
		require.Error(t, err, s)
	}
}

func TestCheckAnswer(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name           string
		function       byte
		request        string
		answerFunction byte
		answer         string
		want           string // data; "-" where it does not fit
		exception      byte
	}{
		{"registers", 3, "00 00 00 02", 3, "04 01 02 03 04", "01 02 03 04", 0},
		{"too short", 3, "00 00 00 02", 3, "02 01 02", "-", 0},
		{"too long", 3, "00 00 00 02", 3, "06 01 02 03 04 05 06", "-", 0},
		{"count lies", 3, "00 00 00 02", 3, "02 01 02 03 04", "-", 0},
		{"count without data", 3, "00 00 00 02", 3, "04", "-", 0},
		{"nothing", 4, "00 00 00 02", 4, "", "-", 0},
		{"other function", 3, "00 00 00 02", 4, "04 01 02 03 04", "-", 0},
		{"coils", 1, "00 00 00 09", 1, "02 FF 01", "FF 01", 0},
		{"too few coils", 1, "00 00 00 09", 1, "01 FF", "-", 0},
		{"discretes", 2, "00 00 00 08", 2, "01 55", "55", 0},
		{"exception", 3, "00 00 00 02", 0x83, "02", "", 2},
		{"exception too long", 3, "00 00 00 02", 0x83, "02 00", "-", 0},
		{"exception without code", 3, "00 00 00 02", 0x83, "", "-", 0},
		{"exception of another function", 3, "00 00 00 02", 0x84, "02", "-", 0},
		{"echo", 6, "00 01 00 05", 6, "00 01 00 05", "", 0},
		{"echo of another value", 6, "00 01 00 05", 6, "00 01 00 04", "-", 0},
		{"echo of another address", 5, "00 01 FF 00", 5, "00 02 FF 00", "-", 0},
		{"echo too short", 6, "00 01 00 05", 6, "00 01 00", "-", 0},
		{"echo too long", 6, "00 01 00 05", 6, "00 01 00 05 00", "-", 0},
		{"echo of a multiple write", 16, "00 01 00 01 02 00 05", 16, "00 01 00 01", "", 0},
		{"mask", 22, "00 04 00 F2 00 25", 22, "00 04 00 F2 00 25", "", 0}, // the example of the specification
		{"another mask", 22, "00 04 00 F2 00 25", 22, "00 04 00 F2 00 24", "-", 0},
		{"half a mask", 22, "00 04 00 F2 00 25", 22, "00 04 00 F2", "-", 0},
		{"long mask", 22, "00 04 00 F2 00 25", 22, "00 04 00 F2 00 25 00", "-", 0},
		// The example of the specification.
		{"write and read", 23, "00 03 00 06 00 0E 00 03 06 00 FF 00 FF 00 FF", 23, "0C 00 FE 0A CD 00 01 00 03 00 0D 00 FF", "00 FE 0A CD 00 01 00 03 00 0D 00 FF", 0},
		{"write and read less", 23, "00 03 00 06 00 0E 00 03 06 00 FF 00 FF 00 FF", 23, "0A 00 FE 0A CD 00 01 00 03 00 0D", "-", 0},
		{"echo of write and read", 23, "00 03 00 01 00 03 00 01 02 00 FF", 23, "00 03 00 01", "-", 0},
		{"write and read refused", 23, "00 03 00 06 00 0E 00 03 06 00 FF 00 FF 00 FF", 0x97, "02", "", 2},
		{"echo of the whole multiple write", 16, "00 01 00 01 02 00 05", 16, "00 01 00 01 02 00 05", "-", 0},
	} {
		data, err := checkAnswer(
			&gb.ProtocolDataUnit{FunctionCode: c.function, Data: unhex(t, c.request)},
			&gb.ProtocolDataUnit{FunctionCode: c.answerFunction, Data: unhex(t, c.answer)})
		var ex *Exception
		switch {
		case c.want == "-":
			assert.ErrorIs(t, err, ErrAnswer, c.name)
			assert.Nil(t, data, c.name)
		case c.exception != 0:
			if assert.ErrorAs(t, err, &ex, c.name) {
				assert.Equal(t, Exception{Function: c.function, Code: c.exception}, *ex, c.name)
			}
		default:
			assert.NoError(t, err, c.name)
			assert.Equal(t, unhex(t, c.want), append([]byte{}, data...), c.name)
		}
	}
}

func TestExceptionText(t *testing.T) {
	t.Parallel()
	assert.Equal(t, "exception 2 (illegal data address) to function 3", (&Exception{Function: 3, Code: 2}).Error())
	assert.Equal(t, "exception 99 (unknown) to function 6", (&Exception{Function: 6, Code: 99}).Error())
}

// receiver is a connection that has sent the given number of requests, the
// last of which is request, and whose peer sent stream.
func receiver(stream []byte, issued uint32) *conn {
	return &conn{r: bufio.NewReaderSize(bytes.NewReader(stream), 2*(headerSize+maxLength)), last: uint16(issued), issued: issued}
}

func TestReceive(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, stream, want, failure string }{
		{"answer", "00 05 00 00 00 05 01 03 02 12 34", "00 05 00 00 00 05 01 03 02 12 34", ""},
		{"earlier answer", "00 04 00 00 00 05 01 03 02 12 34", "", ""},
		{"first answer", "00 01 00 00 00 05 01 03 02 12 34", "", ""},
		{"before the connection", "00 00 00 00 00 05 01 03 02 12 34", "", "transaction id 0 was never sent"},
		{"from the future", "00 06 00 00 00 05 01 03 02 12 34", "", "transaction id 6 was never sent"},
		{"other protocol", "00 05 00 01 00 05 01 03 02 12 34", "", "protocol id 1"},
		{"no length", "00 05 00 00 00 01 01", "", "length 1"},
		{"too long", "00 05 00 00 00 FF 01 03", "", "length 255"},
		{"cut off", "00 05 00 00 00 05 01 03 02 12", "", "EOF"},
		{"cut off in the header", "00 05 00", "", "EOF"},
		{"nothing", "", "", "EOF"},
	} {
		frame, _, err := receiver(unhex(t, c.stream), 5).receive()
		if c.failure != "" {
			require.ErrorContains(t, err, c.failure, c.name)
			continue
		}
		require.NoError(t, err, c.name)
		asks := []ask{{id: 4, done: true}, {id: 5}}
		a := waiting(asks, binary.BigEndian.Uint16(frame))
		if c.want == "" {
			assert.Nil(t, a, c.name)
		} else {
			assert.Same(t, &asks[1], a, c.name)
			assert.Equal(t, unhex(t, c.want), frame, c.name)
		}
	}
}

// Transaction ids start over after 65535, and after that all have been sent.
func TestReceiveAfterWrap(t *testing.T) {
	t.Parallel()
	late := unhex(t, "FF FE 00 00 00 05 01 03 02 12 34")
	frame, _, err := receiver(late, 1<<16).receive()
	require.NoError(t, err)
	require.Nil(t, waiting([]ask{{id: 0}}, binary.BigEndian.Uint16(frame)))
}

// FuzzAnswer feeds arbitrary bytes to the way of an answer: what comes out is
// nothing, or data of exactly the length that was asked for, from a frame with
// the request's transaction id, unit and function.
func FuzzAnswer(f *testing.F) {
	for _, s := range []string{
		"00 05 00 00 00 05 01 03 02 12 34", "00 04 00 00 00 05 01 03 02 12 34 00 05 00 00 00 03 01 83 02",
		"00 05 00 00 00 06 01 06 00 00 00 01", "00 05 00 00 00 02 01 03", "00 05 00 00 00 04 01 01 01 01",
		"00 05 00 00 00 08 01 16 00 00 00 01 00 00", "00 05 00 00 00 05 01 17 02 12 34",
	} {
		for function := range byte(10) {
			f.Add(unhex(f, s), function, uint16(1))
		}
	}
	f.Fuzz(func(t *testing.T, stream []byte, function byte, count uint16) {
		function = []byte{1, 2, 3, 4, 5, 6, 15, 16, 22, 23}[function%10]
		want := -1 // no data
		switch function {
		case 1, 2:
			count = count%2000 + 1
			want = (int(count) + 7) / 8
		case 3, 4, 23:
			count = count%125 + 1
			want = int(count) * 2
		}
		request := &gb.ProtocolDataUnit{FunctionCode: function, Data: appendRead(nil, 0, int(count))}
		switch function {
		case 22:
			request.Data = append(request.Data, 0, 0)
		case 23:
			request.Data = append(request.Data, 0, 0, 0, 1, 2, 0, 0)
		}
		c := receiver(stream, 5)
		for {
			answer, _, err := c.receive()
			if err != nil {
				return
			}
			asks := []ask{{request: *request, id: 5}}
			a := waiting(asks, binary.BigEndian.Uint16(answer))
			if a == nil {
				continue
			}
			a.take(1, answer)
			data, err := a.data, a.err
			var ex *Exception
			switch {
			case errors.As(err, &ex):
				if answer[7] != function|0x80 || len(answer) != 9 {
					t.Fatalf("exception from % x", answer)
				}
			case errors.Is(err, ErrAnswer), err == nil:
			default:
				t.Fatalf("error %v", err)
			}
			if err != nil {
				continue
			}
			if binary.BigEndian.Uint16(answer) != 5 || answer[6] != 1 || answer[7] != function {
				t.Fatalf("took % x", answer)
			}
			if want >= 0 && len(data) != want {
				t.Fatalf("%d bytes of data, want %d", len(data), want)
			}
			if echo := request.Data[:4+2*int(function/22)]; want < 0 && !bytes.Equal(answer[8:], echo) {
				t.Fatalf("took the echo % x for % x", answer[8:], echo)
			}
		}
	})
}

func TestResult(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		sent bool
		err  error
		want channel.Result
	}{
		{true, nil, channel.Done},
		{true, ErrTimeout, channel.Sent},
		{true, ErrAnswer, channel.Sent},
		{true, channel.ErrNotConnected, channel.Sent},
		{false, channel.ErrNotConnected, channel.NotSent},
		{true, &Exception{Code: 1}, channel.Refused},
		{true, &Exception{Code: 2}, channel.Refused},
		{true, &Exception{Code: 4}, channel.Refused},
		{true, &Exception{Code: 5}, channel.Sent},
		{true, &Exception{Code: 6}, channel.Refused},
		{true, &Exception{Code: 10}, channel.Refused},
		{true, &Exception{Code: 11}, channel.Sent},
	} {
		assert.Equal(t, c.want, result(c.sent, c.err), "%+v", c)
	}
}

// FuzzSearch feeds arbitrary bytes to the way of an RTU answer: what it takes is
// a whole frame of the request's unit and function with the right checksum, as
// long as the answer must be; what is left is no more than a frame's begin.
func FuzzSearch(f *testing.F) {
	for _, s := range []string{
		"03 02 12 34", "83 02", "06 00 00 00 01", "01 01 01", "16 00 00 00 01 00 00", "17 02 12 34", "18 00 04 00 01 12 34",
	} {
		pdu := unhex(f, s)
		frame := appendRTU(nil, 1, &gb.ProtocolDataUnit{FunctionCode: pdu[0], Data: pdu[1:]})
		for function := range byte(10) {
			f.Add(frame, function, byte(0))
			f.Add(append([]byte{1, 0x18, 0}, frame...), function, byte(0))
		}
	}
	f.Fuzz(func(t *testing.T, stream []byte, function, count byte) {
		function = []byte{1, 2, 3, 4, 5, 6, 15, 16, 22, 23}[function%10]
		request := &gb.ProtocolDataUnit{FunctionCode: function, Data: appendRead(nil, 0, int(count%125)+1)}
		request.Data = append(request.Data, 0, 0, 0, 1, 2, 0, 0)
		if function == 22 {
			request.Data = request.Data[:6]
		}
		stream = stream[:min(len(stream), 2*maxRTUSize)]
		c := &rtuConn{in: append([]byte{}, stream...)}
		var x exchanged
		var skipped error
		data, done, err := c.search(1, request, &x, &skipped)
		var ex *Exception
		if done && (err == nil || errors.As(err, &ex)) {
			size := wantedLength(request)
			if err != nil {
				size = 5
			}
			end := len(stream) - len(c.in)
			frame := stream[end-size : end]
			if !validRTU(frame) || frame[0] != 1 || frame[1]&0x7f != function || err == nil && len(data) > 0 && !bytes.Equal(data, frame[3:size-2]) {
				t.Fatalf("took % x, %v", frame, err)
			}
		}
		if n := answerLength(c.in); !done && len(c.in) > 0 && (n < 0 || n > 0 && n <= len(c.in)) {
			t.Fatalf("left % x", c.in)
		}
	})
}
