package modbus

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/voltageems/voltage/channel"
	"github.com/voltageems/voltage/model"
)

func TestParseAddress(t *testing.T) {
	t.Parallel()
	for s, want := range map[string]address{
		"coil:0":                   {space: coil},
		"coil:65535:bool":          {space: coil, start: 65535},
		"discrete:3":               {space: discrete, start: 3},
		"holding:100":              {space: holding, start: 100, typ: typeUint16},
		"holding:100:float32":      {space: holding, start: 100, typ: typeFloat32},
		"Input:0x0A:INT16":         {space: input, start: 10, typ: typeInt16},
		"input:10:int16:ba":        {space: input, start: 10, typ: typeInt16, byteSwap: true},
		"holding:1:uint32:ABCD":    {space: holding, start: 1, typ: typeUint32},
		"holding:1:uint32:CDAB":    {space: holding, start: 1, typ: typeUint32, wordSwap: true},
		"holding:1:float64:BADC":   {space: holding, start: 1, typ: typeFloat64, byteSwap: true},
		"holding:65532:int64:dcba": {space: holding, start: 65532, typ: typeInt64, wordSwap: true, byteSwap: true},
		"holding:7:bit0":           {space: holding, start: 7, typ: typeBit},
		"holding:7:bit15:BA":       {space: holding, start: 7, typ: typeBit, bit: 15, byteSwap: true},
		"holding:7:bool":           {space: holding, start: 7, typ: typeBool},
		"holding:7:uint8hi":        {space: holding, start: 7, typ: typeUint8Hi},
		"holding:7:bcd32":          {space: holding, start: 7, typ: typeBCD32},
		"holding:40001":            {space: holding, start: 40001, typ: typeUint16},
	} {
		got, err := parseAddress(s)
		require.NoError(t, err, s)
		assert.Equal(t, want, got, s)
	}
}

func TestParseAddressRefuses(t *testing.T) {
	t.Parallel()
	for s, why := range map[string]string{
		"":                      "want space:number",
		"holding":               "want space:number",
		"holding:1:int16:AB:x":  "want space:number",
		"register:1":            `space "register"`,
		"holding:":              "want 0 to 65535",
		"holding:-1":            "want 0 to 65535",
		"holding:+1":            "want 0 to 65535",
		"holding:65536":         "want 0 to 65535",
		"holding:0x10000":       "want 0 to 65535",
		"holding:0x":            "leading zeros",
		"holding:1e2":           "want 0 to 65535",
		"coil:00001":            "leading zeros",
		"holding: 1":            "want 0 to 65535",
		"holding:65535:int32":   "beyond 65535",
		"holding:65533:float64": "beyond 65535",
		"holding:1:int24":       `type "int24"`,
		"holding:1:":            `type ""`,
		"holding:1:bit":         "bit0 to bit15",
		"holding:1:bit16":       "bit0 to bit15",
		"holding:1:bit03":       "bit0 to bit15",
		"holding:1:int16:ABCD":  "want AB, BA",
		"holding:1:int32:AB":    "want ABCD, CDAB, BADC, DCBA",
		"coil:1:uint16":         "a coil is bool",
		"discrete:1:bool:AB":    "a discrete has none",
	} {
		_, err := parseAddress(s)
		require.Error(t, err, s)
		assert.Contains(t, err.Error(), why, s)
	}
}

func FuzzParseAddress(f *testing.F) {
	for _, s := range []string{"holding:100:float32:CDAB", "coil:0", "input:0x1f:bit3", "discrete:65535:bool", "holding:65535:int64", ":::"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		a, err := parseAddress(s)
		if err != nil {
			if strings.Contains(err.Error(), "%!") && !strings.Contains(s, "%!") {
				t.Fatalf("%q: %v", s, err)
			}
			return
		}
		if int(a.start)+a.width() > 1<<16 {
			t.Fatalf("%q goes beyond 65535: %+v", s, a)
		}
		again, err := parseAddress(a.String())
		if err != nil || again != a {
			t.Fatalf("%q is %+v; its text %q is %+v, %v", s, a, a, again, err)
		}
	})
}

func TestFactoryNamesEveryBadPoint(t *testing.T) {
	t.Parallel()
	_, err := TCP("127.0.0.1")(channel.Setup{ID: "7", Points: []model.Point{
		{ID: "good", Address: "holding:1"},
		{ID: "typo", Address: "holdin:1"},
		{ID: "setpoint", Kind: model.Control, Address: "input:1"},
		{ID: "switch", Kind: model.Adjustment, Address: "discrete:1"},
		{ID: "bit", Kind: model.Control, Address: "holding:1:bit3"},
		{ID: "byte", Kind: model.Control, Address: "holding:1:uint8lo"},
		{ID: "text", Text: true, Address: "holding:1"},
	}})
	require.ErrorIs(t, err, model.ErrInvalid)
	for _, part := range []string{
		"channel 7: point typo: address \"holdin:1\": space \"holdin\": want",
		"point setpoint: address input:1:uint16:AB: control points are written, and the space input is read-only",
		"point switch: address discrete:1: adjustment points are written",
		"point bit: address holding:1:bit3:AB: control points are written, and to write a part",
		"point byte:", "point text:",
	} {
		assert.Contains(t, err.Error(), part)
	}
	assert.NotContains(t, err.Error(), "point good")
}
