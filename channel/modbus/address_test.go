package modbus

import (
	"math"
	"reflect"
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

		// Counted from 1, and reference numbers.
		"holding:101 base=1":                       {space: holding, start: 100, typ: typeUint16},
		"holding:101:int16 base=0":                 {space: holding, start: 101, typ: typeInt16},
		"holding:0x10:int16 BASE=1":                {space: holding, start: 15, typ: typeInt16},
		"holding:65536 base=1":                     {space: holding, start: 65535, typ: typeUint16},
		"coil:1 base=1 invert":                     {space: coil, invert: true},
		"holding:40001 base=1":                     {space: holding, start: 40000, typ: typeUint16},
		"40001":                                    {space: holding, typ: typeUint16},
		"40101:float32:CDAB":                       {space: holding, start: 100, typ: typeFloat32, wordSwap: true},
		"49999:int16":                              {space: holding, start: 9998, typ: typeInt16},
		"400001":                                   {space: holding, typ: typeUint16},
		"465536":                                   {space: holding, start: 65535, typ: typeUint16},
		"30010:int16":                              {space: input, start: 9, typ: typeInt16},
		"10001":                                    {space: discrete},
		"00001":                                    {space: coil},
		"000010:bool":                              {space: coil, start: 9},
		"holding:7:bits0-3":                        {space: holding, start: 7, typ: typeBits, high: 3},
		"holding:7:BITS10-15:BA":                   {space: holding, start: 7, typ: typeBits, bit: 10, high: 15, byteSwap: true},
		"holding:7:string1":                        {space: holding, start: 7, typ: typeString, length: 1},
		"input:7:string125:ba":                     {space: input, start: 7, typ: typeString, length: 125, byteSwap: true},
		"discrete:7 invert":                        {space: discrete, start: 7, invert: true},
		"  holding:7:bit3   INVERT ":               {space: holding, start: 7, typ: typeBit, bit: 3, invert: true},
		"holding:7:int16 na=0x8000":                {space: holding, start: 7, typ: typeInt16, checks: na(0x8000)},
		"holding:7:int16 na=-32768":                {space: holding, start: 7, typ: typeInt16, checks: na(0x8000)},
		"holding:7:int8lo na=-128":                 {space: holding, start: 7, typ: typeInt8Lo, checks: na(0x80)},
		"holding:7:bits0-2 na=7":                   {space: holding, start: 7, typ: typeBits, high: 2, checks: na(7)},
		"holding:7:bcd16 na=9999":                  {space: holding, start: 7, typ: typeBCD16, checks: na(0x9999)},
		"holding:7:bcd32 na=0xFFFFFFFF":            {space: holding, start: 7, typ: typeBCD32, checks: na(0xFFFFFFFF)},
		"holding:7:float32 na=-9999.5":             {space: holding, start: 7, typ: typeFloat32, checks: na(0xC61C3E00)},
		"holding:7:float32 na=-0":                  {space: holding, start: 7, typ: typeFloat32, checks: na(0)},
		"holding:7:float64 na=NaN":                 {space: holding, start: 7, typ: typeFloat64},
		"holding:7 na=0xffff na=0xFFFE":            {space: holding, start: 7, typ: typeUint16, checks: na(0xFFFF, 0xFFFE)},
		"holding:7:int64 na=0x8000000000000000":    {space: holding, start: 7, typ: typeInt64, checks: na(1 << 63)},
		"holding:7:uint64 na=18446744073709551615": {space: holding, start: 7, typ: typeUint64, checks: na(math.MaxUint64)},
		"holding:7 range=-5.5..1e3 rate=.5":        {space: holding, start: 7, typ: typeUint16, checks: &checks{min: -5.5, max: 1000, rate: 0.5}},
		"holding:7 range=0..":                      {space: holding, start: 7, typ: typeUint16, checks: &checks{min: 0, max: math.Inf(1)}},
		"holding:7 rate=2 range=..-1":              {space: holding, start: 7, typ: typeUint16, checks: &checks{min: math.Inf(-1), max: -1, rate: 2}},
	} {
		got, err := parseAddress(s)
		require.NoError(t, err, s)
		assert.Equal(t, want, got, s)
		again, err := parseAddress(got.String())
		require.NoError(t, err, "%s is %s", s, got)
		assert.Equal(t, got, again, s)
	}
}

func na(bits ...uint64) *checks { return &checks{na: bits, min: math.Inf(-1), max: math.Inf(1)} }

func TestAddressString(t *testing.T) {
	t.Parallel()
	for s, want := range map[string]string{
		"40101:FLOAT32:cdab":                        "holding:100:float32:CDAB",
		"00001 INVERT":                              "coil:0 invert",
		"holding:0x10 base=1":                       "holding:15:uint16:AB",
		"input:1:string16":                          "input:1:string16:AB",
		"holding:1:bits4-7":                         "holding:1:bits4-7:AB",
		"holding:1:bits4-6 rate=1e1 range=..5 na=7": "holding:1:bits4-6:AB na=0x7 range=..5 rate=10",
		"holding:1:int32 na=-1":                     "holding:1:int32:ABCD na=0xFFFFFFFF",
		"holding:1 na=0x1":                          "holding:1:uint16:AB na=0x0001",
	} {
		assert.Equal(t, want, mustParse(t, s).String(), s)
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

		"holding:0 base=1":                "want 1 to 65536",
		"holding:65537 base=1":            "want 1 to 65536",
		"holding:01 base=1":               "leading zeros",
		"holding:1 base=2":                "want base=0 or base=1",
		"holding:1 base=1 base=1":         "want base=0 or base=1",
		"coil:1 invert base=1":            "before all other options",
		"40001 base=1":                    "counts from 1 in any case",
		"40000":                           "1 to 65536 after the first digit",
		"400000":                          "1 to 65536 after the first digit",
		"465537":                          "1 to 65536 after the first digit",
		"20001":                           "as the first digit",
		"4001":                            "five or six digits",
		"4000001":                         "five or six digits",
		"0x9C41":                          "want space:number",
		"40001:int16:AB:x":                "want space:number",
		"465536:int32":                    "beyond 65535",
		"10001:int16":                     "a discrete is bool",
		"   ":                             "want space:number",
		"holding:1:bits":                  "lowest and the highest bit",
		"holding:1:bits3":                 "lowest and the highest bit",
		"holding:1:bits3-3":               "lowest and the highest bit",
		"holding:1:bits4-3":               "lowest and the highest bit",
		"holding:1:bits0-16":              "lowest and the highest bit",
		"holding:1:bits00-3":              "lowest and the highest bit",
		"holding:1:bits0-3-5":             "lowest and the highest bit",
		"holding:1:string":                "length in registers",
		"holding:1:string0":               "length in registers",
		"holding:1:string126":             "length in registers",
		"holding:1:string381":             "length in registers",
		"holding:1:string016":             "length in registers",
		"holding:65530:string7":           "beyond 65535",
		"holding:1:string2:CDAB":          "want AB, BA",
		"holding:1 invert":                "only bool and bit can be inverted, not uint16",
		"coil:1 invert=1":                 "invert has no value",
		"coil:1 invert invert":            "there twice",
		"coil:1 na=1":                     "na is for numbers, not for bool",
		"holding:1:bit1 rate=1":           "rate is for numbers, not for bit1",
		"holding:1:string9 range=1..2":    "range is for numbers, not for string9",
		"holding:1 na=":                   "want a number of uint16, or its bits such as 0xFFFF",
		"holding:1 na=-1":                 "want a number of uint16",
		"holding:1 na=65536":              "want a number of uint16",
		"holding:1 na=0x10000":            "want a number of uint16",
		"holding:1 na=nan":                "want a number of uint16",
		"holding:1:int16 na=32768":        "want a number of int16",
		"holding:1:int16 na=1.5":          "want a number of int16",
		"holding:1:int8hi na=0x100":       "bits such as 0xFF",
		"holding:1:bits0-2 na=8":          "bits such as 0x7",
		"holding:1:bcd16 na=10000":        "want a number of bcd16",
		"holding:1:float32 na=1e39":       "bits such as 0x7FC00000, or nan",
		"holding:1:float64 na=inf":        "bits such as 0x7FC0000000000000, or nan",
		"holding:1:int16 na=-1 na=0xFFFF": "there twice",
		"holding:1 na=1 na=2 na=3 na=4 na=5 na=6 na=7 na=8 na=9": "more than 8",
		"holding:1 range=":              "range=-50..120",
		"holding:1 range=..":            "range=-50..120",
		"holding:1 range=5":             "range=-50..120",
		"holding:1 range=a..5":          "range=-50..120",
		"holding:1 range=0..inf":        "range=-50..120",
		"holding:1 range=nan..":         "range=-50..120",
		"holding:1 range=5..4":          "5 is above 4",
		"holding:1 range=5.. range=..6": "there twice",
		"holding:1 rate=0":              "above 0",
		"holding:1 rate=-1":             "above 0",
		"holding:1 rate=nan":            "above 0",
		"holding:1 rate":                "above 0",
		"holding:1 scale=2":             "unknown: want base=, invert, na=, range= or rate=",
		"holding:1 int16":               "unknown: want base=",
	} {
		_, err := parseAddress(s)
		require.Error(t, err, s)
		assert.Contains(t, err.Error(), why, s)
	}
}

func FuzzParseAddress(f *testing.F) {
	for _, s := range []string{"holding:100:float32:CDAB", "coil:0", "input:0x1f:bit3", "discrete:65535:bool", "holding:65535:int64", ":::",
		"40101:string16:BA", "465536", "00001 invert", "holding:1:bits3-7 base=1 na=0x1F range=-1..2e3 rate=.5", "30001:float32 na=-0 na=nan range=..0"} {
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
		if err != nil || !reflect.DeepEqual(again, a) {
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
		{ID: "serial", Address: "holding:1:string8"},
		{ID: "field", Kind: model.Control, Address: "holding:1:bits0-3"},
		{ID: "ramp", Kind: model.Control, Address: "holding:1 rate=5"},
		{ID: "long", Text: true, Address: "holding:1:string126"},
	}})
	require.ErrorIs(t, err, model.ErrInvalid)
	for _, part := range []string{
		"channel 7: point typo: address \"holdin:1\": space \"holdin\": want",
		"point setpoint: address input:1:uint16:AB: control points are written, and the space input is read-only",
		"point switch: address discrete:1: adjustment points are written",
		"point bit: address holding:1:bit3:AB: control points are written, and bit3 is a part of a register: say how with the option part_writes (PartWrites), mask or rewrite",
		"point byte:", "point text: address holding:1:uint16:AB: uint16 is a number, and the point is text: want a type such as string16",
		"point serial: address holding:1:string8:AB: string8 is text, and the point is a number: want text: true",
		"point field: address holding:1:bits0-3:AB: control points are written, and bits0-3 is a part",
		"point ramp: address holding:1:uint16:AB rate=5: control points are written, and a command may change them at any rate",
		"point long:",
	} {
		assert.Contains(t, err.Error(), part)
	}
	assert.NotContains(t, err.Error(), "point good")
}
