package modbus

import (
	"bytes"
	"log/slog"
	"math"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/voltageems/voltage/channel"
	"github.com/voltageems/voltage/channel/channeltest"
	"github.com/voltageems/voltage/channel/modbus/server"
	"github.com/voltageems/voltage/model"
)

func TestNotAvailable(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		address, bytes string
		want           model.Quality
	}{
		{"int16 na=0x8000", "80 00", model.Invalid},
		{"int16", "80 00", model.Good}, // none is implied
		{"int16 na=0x8000", "80 01", model.Good},
		{"int16:BA na=0x8000", "00 80", model.Invalid}, // the bits in the device's order
		{"int16:BA na=0x8000", "80 00", model.Good},
		{"uint16 na=0xFFFF na=0xFFFE", "FF FE", model.Invalid},
		{"uint16 na=0xFFFF na=0xFFFE", "FF FD", model.Good},
		{"int32:CDAB na=-2147483648", "00 00 80 00", model.Invalid},
		{"int64 na=0x8000000000000000", "80 00 00 00 00 00 00 00", model.Invalid},
		{"uint64 na=0xFFFFFFFFFFFFFFFF", "FF FF FF FF FF FF FF FF", model.Invalid},
		{"bcd16 na=9999", "99 99", model.Invalid},
		{"int8hi na=-128", "80 00", model.Invalid},
		{"int8lo na=-128", "80 00", model.Good},
		{"bits4-7 na=0xF", "00 F3", model.Invalid},
		{"bits4-7 na=0xF", "0F E3", model.Good},
		{"float32 na=-9999", "C6 1C 3C 00", model.Invalid},
		{"float32 na=0", "80 00 00 00", model.Invalid}, // minus zero
		{"float32 na=0x80000000", "00 00 00 00", model.Invalid},
		{"float32 na=nan", "7F C0 00 01", model.Invalid},
		{"float32 na=1", "FF C0 00 00", model.Invalid}, // NaN in any case
		{"float32 na=1", "7F 80 00 00", model.Overflow},
		{"float64 na=1e300", "7E 37 E4 3C 88 00 75 9C", model.Invalid},
	} {
		i := item{address: mustParse(t, "holding:0:"+c.address), factor: 1}
		v, quality := i.value(unhex(t, c.bytes), 0)
		assert.Equal(t, c.want, quality, "%+v", c)
		if quality != model.Good {
			assert.Zero(t, v, "%+v", c)
		}
	}
}

func TestRangeIsInTheUnit(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		address       string
		factor, shift float64
		bytes         string
		want          model.Quality
	}{
		{"uint16 range=0..100", 1, 0, "00 64", model.Good},
		{"uint16 range=0..100", 1, 0, "00 65", model.Overflow},
		{"uint16 range=0..0.3", 0.1, 0, "00 03", model.Good}, // 0.30000000000000004
		{"uint16 range=0..0.3", 0.1, 0, "00 04", model.Overflow},
		{"uint16 range=0.3..", -0.1, 0.6, "00 03", model.Good}, // 0.29999999999999993
		{"int16 range=0..", 1, 0, "FF FF", model.Overflow},
		{"int16 range=0..", 1, 10, "FF FF", model.Good},
		{"int16 range=..-1", 1, 0, "FF FF", model.Good},
		{"int16 range=..-1", 1, 0, "00 00", model.Overflow},
	} {
		i := item{address: mustParse(t, "holding:0:"+c.address), factor: c.factor, offset: c.shift}
		_, quality := i.value(unhex(t, c.bytes), 0)
		assert.Equal(t, c.want, quality, "%+v", c)
	}
}

func TestDecodeText(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		address, bytes, want string
		quality              model.Quality
	}{
		{"string2", "ABCD", "ABCD", model.Good},
		{"string2:BA", "BADC", "ABCD", model.Good},
		{"string3", "AB  \x00\x00", "AB", model.Good},
		{"string3", "AB \x00CD", "AB", model.Good}, // what is behind the end is left over
		{"string3:BA", "BA\x00CDE", "ABC", model.Good},
		{"string2", " A B", " A B", model.Good},
		{"string2", "\x00\x00\x00\x00", "", model.Good},
		{"string2", "    ", "", model.Good},
		{"string2", "\xc3\xa4\xc3\xb6", "äö", model.Good},
		{"string2", "\xe4\xf6AB", "", model.Invalid},
		{"string1", "\xff\xff", "", model.Invalid},
		{"string2", "A\xc3\x00\x00", "", model.Invalid},
		{"string2", "AB\x00\xff", "AB", model.Good},
		{"string1", "ABCD", "AB", model.Good}, // the next point's
	} {
		got, quality := mustParse(t, "holding:0:"+c.address).decodeText([]byte(c.bytes), "before")
		assert.Equal(t, c.quality, quality, "%+v", c)
		assert.Equal(t, c.want, got, "%+v", c)
	}
}

func TestTextThatStaysCostsNoMemory(t *testing.T) {
	a, data := mustParse(t, "holding:0:string16:BA"), []byte(strings.Repeat("abcd", 8))
	text, _ := a.decodeText(data, "")
	assert.Zero(t, testing.AllocsPerRun(100, func() { text, _ = a.decodeText(data, text) }))
	assert.Equal(t, strings.Repeat("badc", 8), text)
}

func TestTrend(t *testing.T) {
	t.Parallel()
	type step struct {
		after  time.Duration
		value  float64
		belief bool
	}
	for name, steps := range map[string][]step{
		"the first is believed":     {{0, 1e6, true}},
		"within the rate":           {{0, 0, true}, {time.Second, 5, true}, {time.Second, 0, true}, {2 * time.Second, -10, true}},
		"a spike":                   {{0, 0, true}, {time.Second, 100, false}, {time.Second, 1, true}, {time.Second, 100, false}, {time.Second, 100, false}, {time.Second, 2, true}},
		"time since the last good":  {{0, 0, true}, {time.Second, 9, false}, {time.Second, 9, true}},
		"a jump that stays":         {{0, 0, true}, {time.Second, 100, false}, {time.Second, 103, false}, {time.Second, 99, true}, {time.Second, 101, true}},
		"noise is never believed":   {{0, 0, true}, {time.Second, 100, false}, {time.Second, -100, false}, {time.Second, 100, false}, {time.Second, -100, false}, {time.Second, 90, false}},
		"not less than a scan":      {{0, 0, true}, {time.Millisecond, 5, true}, {0, 10, true}, {0, 15.1, false}},
		"a clock that is set back":  {{0, 0, true}, {-time.Hour, 4, true}, {time.Second, 8, true}},
		"a counter that began anew": {{0, 1e6, true}, {time.Second, 0, false}, {time.Second, 1, false}, {time.Second, 2, true}},
	} {
		tr := trend{rate: 5, least: time.Second}
		now := time.Unix(1e9, 0)
		for k, s := range steps {
			now = now.Add(s.after)
			assert.Equal(t, s.belief, tr.believe(s.value, now), "%s: step %d", name, k)
		}
	}
}

func TestReadTextFieldsAndDoubtfulValues(t *testing.T) {
	t.Parallel()
	dev := newDevice(t, 1)
	m := dev.units[1]
	clock := channeltest.NewClock(t)
	text := model.Point{ID: "serial", Address: "40011:string4", Text: true}
	s := setup(text, point("mode", "holding:20:bits4-7"), point("fault", "holding:20:bit0 invert"), point("off", "coil:3 invert"),
		point("temp", "holding:21:int16 na=0x8000"), point("soc", "holding:22 range=0..100"), point("level", "holding:23 rate=5"))
	s.Scan, s.Clock = time.Second, clock
	d := connected(t, TCP(dev.address), s)
	round := func(registers ...uint16) map[string]model.Sample {
		t.Helper()
		m.SetRegisters(server.HoldingRegister, 20, registers...)
		clock.Advance(time.Second)
		return read(t, d)
	}
	m.SetRegisters(server.HoldingRegister, 10, 'S'<<8|'N', '1'<<8|'2', ' '<<8, 0)
	sample := model.Sample{Point: "serial", Text: "SN12"}
	assert.Equal(t, map[string]model.Sample{
		"serial": sample, "mode": good("mode", 5), "fault": good("fault", 1), "off": good("off", 0),
		"temp": good("temp", -1), "soc": good("soc", 100), "level": good("level", 7),
	}, round(0x0350, 0xFFFF, 100, 7))

	m.SetRegisters(server.HoldingRegister, 11, 0xFFFF)
	assert.Equal(t, map[string]model.Sample{
		"serial": bad("serial", model.Invalid), "mode": good("mode", 15), "fault": good("fault", 0), "off": good("off", 0),
		"temp": bad("temp", model.Invalid), "soc": bad("soc", model.Overflow), "level": bad("level", model.Bad),
	}, round(0x00F1, 0x8000, 101, 1000))

	m.SetRegisters(server.HoldingRegister, 11, '1'<<8|'2')
	got := round(0, 5, 50, 9)
	assert.Equal(t, sample, got["serial"])
	assert.Equal(t, good("temp", 5), got["temp"])
	assert.Equal(t, good("soc", 50), got["soc"])
	assert.Equal(t, good("level", 9), got["level"])

	dev.faults(func(r server.Request) server.Action {
		if r.Address == 10 {
			return server.Action{Exception: server.DeviceFailure}
		}
		return server.Action{}
	})
	assert.Equal(t, bad("serial", model.Bad), round(0)["serial"], "and without text")
}

// Whatever a device sends for whatever address: a number of good quality can be
// stored, a text of good quality is UTF-8, and a number that is written is read
// back the same.
func FuzzValue(f *testing.F) {
	for _, s := range []string{"holding:0:float32:CDAB na=-9999", "holding:0:string4:BA", "coil:0 invert", "holding:0:bits3-9 na=0x7F", "40001:bcd32", "holding:0:int64 range=..5"} {
		f.Add(s, []byte("\x80\x00\xff\xff\x7f\xc0\x00\x00"), 0.1, 1.0)
	}
	f.Fuzz(func(t *testing.T, s string, data []byte, factor, offset float64) {
		a, err := parseAddress(s)
		if err != nil || math.IsNaN(factor) || math.IsNaN(offset) {
			return
		}
		data = append(data, make([]byte, 2*a.width())...)
		if a.typ == typeString {
			text, quality := a.decodeText(data, "")
			if !utf8.ValidString(text) || quality != model.Good && text != "" || strings.HasSuffix(text, " ") || strings.Contains(text, "\x00") {
				t.Fatalf("%s: %q, %s", a, text, quality)
			}
			return
		}
		i := item{address: a, factor: factor, offset: offset}
		v, quality := i.value(data, int(a.start))
		if !model.Storable(v) || quality != model.Good && v != 0 {
			t.Fatalf("%s: %v, %s", a, v, quality)
		}
		if a.space.bits() || a.typ.partial() {
			return
		}
		raw, quality := a.decode(data)
		if quality != model.Good {
			return
		}
		b, err := a.encode(nil, raw)
		require.NoError(t, err, "%s: %v", a, raw)
		again, quality := a.decode(b)
		if again != raw || quality != model.Good {
			t.Fatalf("%s: %v, written and read %v, %s", a, raw, again, quality)
		}
	})
}

func TestWriteInverted(t *testing.T) {
	t.Parallel()
	dev := newDevice(t, 1)
	on := control("on", "00011 invert")
	enable := control("enable", "holding:11:bool invert")
	on.ReadBack, enable.ReadBack = true, true
	d := connected(t, TCP(dev.address), setup(on, enable))
	for _, v := range []float64{1, 0, 1} {
		for _, p := range []model.Point{on, enable} {
			out, err := d.Write(t.Context(), channel.Write{Point: p, Value: v})
			require.NoError(t, err)
			assert.Equal(t, channel.Confirmed, out.Result)
		}
		bit, _ := dev.units[1].Bit(server.Coil, 10)
		register, _ := dev.units[1].Register(server.HoldingRegister, 11)
		assert.Equal(t, v == 0, bit)
		assert.Equal(t, uint16(1-v), register)
	}
}

func TestNotAvailableIsNotWritten(t *testing.T) {
	t.Parallel()
	dev := newDevice(t, 1)
	limit := control("limit", "holding:11 na=0xFFFF")
	d := connected(t, TCP(dev.address), setup(limit))
	out, err := d.Write(t.Context(), channel.Write{Point: limit, Value: 65535})
	require.ErrorIs(t, err, model.ErrInvalid)
	assert.ErrorContains(t, err, "means not available")
	assert.Equal(t, channel.NotSent, out.Result)
	assert.Empty(t, dev.requests())
}

// The log names the points without an address on the device, and not those
// that are Invalid for another reason.
func TestLogNamesOnlyMissingAddresses(t *testing.T) {
	t.Parallel()
	dev := newDevice(t, 1)
	var log bytes.Buffer
	s := setup(point("unavailable", "holding:11 na=11"), point("fine", "holding:12"), point("missing", "holding:500"))
	s.Log = slog.New(slog.NewTextHandler(&log, nil))
	d := connected(t, TCP(dev.address), s)
	assert.Equal(t, bad("unavailable", model.Invalid), read(t, d)["unavailable"])
	assert.Contains(t, log.String(), "count=1 invalid=[missing]")
}
