package reference

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func clock() time.Time { return time.UnixMilli(1_790_000_000_123) }

// put makes calls that must succeed.
func put(t *testing.T, s Store, calls ...string) {
	t.Helper()
	for _, c := range calls {
		_, err := s.Call(strings.Split(c, " ")...)
		require.NoError(t, err, c)
	}
}

func runOK(t *testing.T, s Store, name string, args ...string) []string {
	t.Helper()
	reply, err := Run(s, Script{Name: name}, []string{"{s}:anchor"}, args)
	require.NoError(t, err)
	return reply
}

// recording is a Memory that keeps the calls.
type recording struct {
	*Memory
	calls []string
}

func (r *recording) Call(args ...string) (any, error) {
	r.calls = append(r.calls, strings.Join(args, " "))
	return r.Memory.Call(args...)
}

func TestValueByHand(t *testing.T) {
	t.Parallel()
	s := &recording{Memory: NewMemory(clock)}
	put(t, s, "HSET {s}:mapping:c2m 1001:1 pcs1:p,bad", `HSET {s}:alarm:rules:pcs1:p hi {"operator":">","threshold":"20"}`)
	s.calls = nil
	require.Equal(t, []string{"OK", "pcs1:p = 25.500000", `mapping of 1001:1 to "bad" is malformed and was skipped`, "alarm hi of pcs1:p raised"},
		runOK(t, s, "data_sync", "c2m", "1001", "1", "25.5"))
	require.Equal(t, []string{"MGET {s}:site:generation {s}:lua:version:data_sync {s}:anchor", "TIME", "ZRANGEBYSCORE {s}:timers -inf 1790000000123 LIMIT 0 51", "HGET {s}:mapping:c2m 1001:1",
		"HSET {s}:comsrv:1001:m 1 25.500000", "HDEL {s}:comsrv:1001:quality 1", "HSET {s}:modsrv:pcs1:measurement p 25.500000",
		"HSET {s}:modsrv:pcs1:ts p 1790000000123", "HDEL {s}:modsrv:pcs1:quality p", "DEL {s}:cache:model:pcs1:values",
		"PUBLISH {s}:modsrv:pcs1:update p:25.500000"}, s.calls[:11])
	require.Equal(t, "1|||1|active|1790000000123||||1790000000123|", s.Dump()["{s}:alarm:state"].Hash["pcs1:p:hi"])
	require.Contains(t, s.Published(), Message{"{s}:alarm:new", "1"})
	require.Equal(t, []string{"OK", "pcs1:p = 20.000000", `mapping of 1001:1 to "bad" is malformed and was skipped`, "alarm hi of pcs1:p cleared"},
		runOK(t, s, "data_sync", "c2m", "1001", "1", "20"))
}

func TestWithoutSite(t *testing.T) {
	t.Parallel()
	s := NewMemory(clock)
	_, err := Run(s, Script{Name: "data_sync"}, nil, []string{"c2m", "7", "1", "5", "100"})
	require.NoError(t, err)
	require.Equal(t, "5.000000", s.Dump()["comsrv:7:m"].Hash["1"])
	_, err = Run(s, Script{Name: "data_sync"}, []string{"short"}, []string{"c2m", "7", "1", "5", "100"})
	require.NoError(t, err)
}

func TestVersions(t *testing.T) {
	t.Parallel()
	s := NewMemory(clock)
	put(t, s, "SET lua:version:data_sync 2.0.0", "HSET comsrv:7:fence epoch 9", "HSET comsrv:8:fence epoch 9", "HSET lua:canary:data_sync 7 1.0.0")
	batch := func(version, channel string) string {
		reply, err := Run(s, Script{Name: "data_sync", Version: version}, nil, []string{"batch", "100", "", "", channel, "9", "1", "0"})
		require.NoError(t, err)
		return reply[0]
	}
	require.Equal(t, "INACTIVE", batch("1.0.0", "8"))
	require.Equal(t, "OK", batch("1.0.0", "7"), "on trial")
	require.Equal(t, "DUPLICATE", batch("2.0.0", "7"))
	require.Equal(t, "OK", batch("", "8"), "any version")
	_, err := Run(s, Script{Name: "none"}, nil, nil)
	require.ErrorIs(t, err, ErrUnknown)
}

// down is a store that cannot be reached from some call on.
type down struct {
	*Memory
	left int
}

var errDown = errors.New("down")

func (d *down) Call(args ...string) (any, error) {
	if d.left--; d.left < 0 {
		return nil, errDown
	}
	return d.Memory.Call(args...)
}

// A store that goes away ends the run, also where the script would go on after
// an error reply.
func TestStoreGoesAway(t *testing.T) {
	t.Parallel()
	for left := range 100 {
		d := &down{Memory: NewMemory(clock)}
		put(t, d.Memory, "HSET comsrv:7:fence epoch 9", `HSET rule:r conditions [{"key":"x","field":"y","operator":">","threshold":0}] actions [{"type":"alarm"}]`, "HSET x y 1")
		d.left = left
		_, err := Run(d, Script{Name: "data_sync"}, nil, []string{"batch", "100", "", "", "7", "9", "1", "1",
			"S", "comsrv:7:m", "1", "1", "5.000000", "X", "hissrv:queue", "10", "7", "m:p\t5", "A", "1", "m:p:hi", "5", ">", "1", "0", "R", "1", "r"})
		if err == nil {
			require.Greater(t, left, 20)
			return
		}
		require.ErrorIs(t, err, errDown)
	}
	t.Fatal("it never ended")
}

// A wrong type costs a batch the write alone, and a call by hand its reply.
func TestErrorReplies(t *testing.T) {
	t.Parallel()
	s := NewMemory(clock)
	put(t, s, "HSET comsrv:7:fence epoch 9", "SET comsrv:7:m foreign")
	reply, err := Run(s, Script{Name: "data_sync"}, nil, []string{"batch", "100", "", "", "7", "9", "1", "1", "S", "comsrv:7:m", "1", "1", "5", "S", "comsrv:7:s", "1", "1", "5"})
	require.NoError(t, err)
	require.Equal(t, []string{"OK", "write of comsrv:7:m: WRONGTYPE Operation against a key holding the wrong kind of value"}, reply)
	require.Equal(t, "5", s.Dump()["comsrv:7:s"].Hash["1"])
	var e *Error
	_, err = Run(s, Script{Name: "data_sync"}, nil, []string{"c2m", "7", "1", "5", "100"})
	require.ErrorAs(t, err, &e)
	require.Equal(t, wrongType.Text, e.Error())
	_, err = Run(s, Script{Name: "command"}, nil, []string{"submit", "100", "", "id"})
	require.ErrorAs(t, err, &e)
	require.Contains(t, e.Text, "argument 11 is missing")
}

func TestNumbers(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]float64{"5": 5, "+5": 5, "-5.5": -5.5, ".5": .5, "-.5": -.5, "5.": 5, "007": 7, "1000000000000000": 1e15, "-0": 0,
		"": math.NaN(), ".": math.NaN(), "+": math.NaN(), "1e3": math.NaN(), "0x10": math.NaN(), "nan": math.NaN(), "inf": math.NaN(), " 1": math.NaN(),
		"1 ": math.NaN(), "1,5": math.NaN(), "1.2.3": math.NaN(), "--1": math.NaN(), "1000000000000001": math.NaN(), strings.Repeat("1", 41): math.NaN()} {
		n, ok := number(text)
		require.Equal(t, !math.IsNaN(want), ok, text)
		if ok {
			require.InDelta(t, want, n, 0, text)
		}
	}
	for text, want := range map[string]string{"5": "5", " 5\n": "5", "1e3": "1000", "0x10": "16", "0x": "", "-0xA": "-10", "nan": "NaN", "-inf": "-Inf", "infinity": "+Inf",
		"": "", " ": "", "5x": "", "1_0": "", "e5": "", "5e": "", ".": "", "1e400": "+Inf", "0x1p4": "16", "0x.8": "0.5", "1e-400": "0"} {
		n, ok := tonumber(text)
		require.Equal(t, want != "", ok, text)
		if ok {
			require.Equal(t, want, fmt.Sprint(n), text)
		}
	}
	require.Equal(t, "0.000000", stored(-0.0000001))
	require.Equal(t, "-1.500000", stored(-1.5))
	require.Equal(t, "0.1 100000 1e+20", concat(0.1)+" "+concat(1e5)+" "+concat(1e20))
	require.Equal(t, "0.10000000000000001", argument(0.1))
}

func TestJSON(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]any{
		`{"a":1,"a":2}`:                     object{"a": 2.0},
		`{"a":1,"a":null}`:                  object{"a": null{}},
		` [1 , true,[],{"a":null} ]` + "\n": array{1.0, true, array{}, object{"a": null{}}},
		`["\u00e9\ud83d\ude00\n\/\u0000"]`:  array{"é😀\n/\x00"},
		`[0x10,+1,01,-inf,1e3]`:             array{16.0, 1.0, 1.0, math.Inf(-1), 1000.0}, // as lax as cjson
		"[\"\n\xff\"]":                      array{"\n\xff"},
		`{"a":true,"b":false}`:              object{"a": true, "b": false},
		"{}\x00x":                           object{},
		strings.Repeat("[", 3) + "]]]":      array{array{array{}}},
		`5`:                                 nil, `"x"`: nil, `null`: nil, ``: nil, `[`: nil, `[1,]`: nil, `{"a"}`: nil, `{"a":}`: nil, `{,}`: nil, `{1:2}`: nil, `[1]x`: nil,
		`[1,null]`: nil, `[[null ]]`: nil, `["\ud83d"]`: nil, `["\ude00\ud83d"]`: nil, `["\x"]`: nil, `["\u12"]`: nil, `["\u12g4"]`: nil, "[\"\x00\"]": nil, `["`: nil, `["\`: nil, "[\x00]": nil,
		`[tru]`: nil, `[nul]`: nil, `[-]`: nil, `{"a":1 "b":2}`: nil, `[1 2]`: nil,
	} {
		require.Equal(t, want, decode(text, true), text)
	}
	require.Nil(t, decode("{}", false))
	deep := func(n int) string { return strings.Repeat("[", n) + strings.Repeat("]", n) }
	require.NotNil(t, decode(deep(1000), true))
	require.Nil(t, decode(deep(1001), true))
	require.Nil(t, decode(strings.Repeat(`{"a":`, 1001)+"1"+strings.Repeat("}", 1001), true))
	o := map[string]string{"b": "\"\\/\n\x01\x7fé", "a": ""}
	require.Equal(t, `{"a":"","b":"\"\\\/\n\u0001\u007fé"}`, encode(o))
	require.Equal(t, object{"a": "", "b": o["b"]}, decode(encode(o), true))
}

func TestSame(t *testing.T) {
	t.Parallel()
	a := []string{"LPUSH", "k", `{"a":"1","b":"2"}`}
	require.True(t, Same(a, a))
	require.True(t, Same(a, []string{"LPUSH", "k", `{"b":"2","a":"1"}`}))
	require.False(t, Same(a, []string{"LPUSH", "k", `{"b":"2","a":"3"}`}))
	require.False(t, Same(a, []string{"LPUSH", "l", `{"b":"2","a":"1"}`}))
	require.False(t, Same(a, []string{"LPUSH", "k", `x`}))
	require.False(t, Same([]string{"GET", "a"}, []string{"GET", "b"}))
}

// Of more notifications than wait, the less urgent are left out, and of critical
// ones the oldest. All are counted.
func TestNotificationCap(t *testing.T) {
	t.Parallel()
	s := NewMemory(clock)
	r := &run{store: s}
	n := 0
	for _, c := range []struct {
		severity        string
		given, wait     int
		newest, dropped string
	}{{"low", 5001, 5000, "4999", "1"}, {"odd", 2001, 7000, "7000", "2"}, {"high", 2002, 9000, "9001", "4"},
		{"critical", 11003, 20000, "20006", "7"}, {"high", 1, 20000, "20006", "8"}} {
		require.NoError(t, guarded(func() {
			for range c.given {
				r.notify(c.severity, map[string]string{"n": fmt.Sprint(n)})
				n++
			}
		}))
		dump := s.Dump()
		require.Len(t, dump["notification:queue"].List, c.wait)
		require.Equal(t, `{"n":"`+c.newest+`"}`, dump["notification:queue"].List[0], c.severity)
		require.Equal(t, c.dropped, dump["notification:dropped"].Text)
	}
}

func BenchmarkBatch(b *testing.B) {
	s := NewMemory(clock)
	_, _ = s.Call("HSET", "comsrv:7:fence", "epoch", "9")
	args := []string{"batch", "100", "", "", "7", "9", "1", "500", "S", "comsrv:7:m", "500"}
	for i := range 500 {
		args = append(args, fmt.Sprint(i), "5.000000")
	}
	args = append(args, "A", "50")
	for i := range 50 {
		args = append(args, fmt.Sprintf("m:p%d:hi", i), "5.000000", ">", "7.000000", "0.000000")
	}
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		n++
		args[6] = fmt.Sprint(n)
		if reply, err := Run(s, Script{Name: "data_sync"}, nil, args); err != nil || reply[0] != "OK" {
			b.Fatal(reply, err)
		}
	}
}
