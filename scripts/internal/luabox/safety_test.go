package luabox

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"runtime/pprof"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// What takes much memory runs alone, before the parallel tests: the heap is the
// process's.
func TestEndlessScriptsEnd(t *testing.T) {
	for name, text := range map[string]string{
		"while":               "local n = 0\nwhile true do end",
		"while in pcall":      "while true do pcall(function() while true do end end) end",
		"pcall again":         "local function f() while true do pcall(error, 'x') end end f()",
		"repeat":              "repeat until false",
		"for":                 "for i = 1, math.huge do end",
		"tail calls":          "local function f() return pcall(error) end while true do f() end",
		"mutual":              "local b\nlocal function go(n) if n == 0 then return end return b(n) end\nb = function(n) return go(n - 1) end\nwhile true do b(5) end",
		"xpcall handler":      "while true do xpcall(function() error('x') end, function() while true do end end) end",
		"metamethod":          "local t = setmetatable({}, {__index = function(t, k) while true do end end}) return t.x",
		"sort":                "local t = {} for i = 1, 1000 do t[i] = i end while true do table.sort(t, function(a, b) return a > b end) end",
		"gsub":                "return (('x'):rep(100)):gsub('x', function() while true do end end)",
		"evil pattern":        "return (('a'):rep(300000)):find('.-.-.-.-.-b')",
		"evil gmatch":         "for _ in (('a'):rep(300000)):gmatch('.-.-.-.-.-b') do end",
		"evil gsub":           "return (('a'):rep(300000)):gsub('a*a*a*a*a*b', '')",
		"redis in a loop":     "local n = 0 while n >= 0 do n = n + 1 if n % 3 == 0 then redis.call('PING') end for i = 1, 1000 do end end",
		"pcall in a depth":    "local function f(n) if n > 150 then while true do end end pcall(f, n + 1) return f(n) end f(1)",
		"table.insert at 1":   "local t = {} for i = 1, 3e4 do t[i] = i end while true do table.insert(t, 1, 0) end",
		"table.concat":        "local t = {} for i = 1, 1e5 do t[i] = '' end while true do table.concat(t) end",
		"unpack":              "local t = {} for i = 1, 7000 do t[i] = 1 end while true do select('#', unpack(t)) end",
		"cjson of many":       "local t = {1} for i = 1, 60 do t = {t, t} end return cjson.encode(t)",
		"reply of many":       "local t = {1} for i = 1, 60 do t = {t, t} end return t",
		"nested cjson decode": "while true do cjson.decode('[[[[]]]]') end",
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
			defer cancel()
			start := time.Now()
			_, _, err := Run(ctx, Script{Name: "evil", Text: text}, nil, nil, newStore(t, Options{Memory: 8 << 20}))
			require.Error(t, err)
			require.True(t, errors.Is(err, ErrTime) || errors.Is(err, ErrMemory), "%v", err)
			if errors.Is(err, ErrTime) {
				require.ErrorIs(t, err, context.DeadlineExceeded)
			}
			require.Less(t, time.Since(start), 20*time.Second) // generous: a bound, not a measurement
			require.Contains(t, err.Error(), "script evil: ")
		})
	}
}

func TestTheErrorNamesTheLine(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(context.Background(), 500*time.Millisecond) // enough to get there
	defer cancel()
	_, _, err := Run(ctx, Script{Text: "local n = 0\n\nwhile true do pcall(function()\n while true do end end) end"}, nil, nil, nil)
	var e *Error
	require.ErrorAs(t, err, &e)
	require.Equal(t, 4, e.Line)
	require.Equal(t, "user_script:4: luabox: the script's time is over", err.Error())

	_, _, err = Run(context.Background(), Script{Text: "local n = 0\n\nlocal x = nil .. 'a'"}, nil, nil, nil)
	require.ErrorAs(t, err, &e)
	require.Equal(t, &Error{Line: 3, Message: "attempt to concatenate a nil value"}, e)

	_, _, err = Run(context.Background(), Script{Text: "local n = 0\nlocal t = n.x.y"}, nil, nil, nil)
	require.ErrorAs(t, err, &e)
	require.Equal(t, 2, e.Line)

	_, _, err = Run(context.Background(), Script{Text: "local n = 0\nif x then\n"}, nil, nil, nil)
	require.ErrorAs(t, err, &e)
	require.ErrorIs(t, err, ErrSyntax)
	require.Equal(t, 3, e.Line)

	_, _, err = Run(context.Background(), Script{Text: "local n = 0\nlocal = 5\n"}, nil, nil, nil)
	require.ErrorAs(t, err, &e)
	require.Equal(t, 2, e.Line)
}

func TestACancelledContextRunsNothing(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_, calls, err := Run(ctx, Script{Text: "redis.call('SET', 'a', 'b')"}, nil, nil, nil)
	require.ErrorIs(t, err, ErrTime)
	require.ErrorIs(t, err, context.Canceled)
	require.Empty(t, calls)
}

func TestMemoryIsBounded(t *testing.T) {
	for name, text := range map[string]string{
		"rep":              "return #(('x'):rep(2e9))",
		"rep in pcall":     "while true do pcall(string.rep, 'x', 2e9) end",
		"rep of rep":       "local s = 'x' while true do s = s:rep(10) end",
		"doubling":         "local s = 'x' while true do s = s .. s end",
		"doubling in one":  "local s = ('x'):rep(1e6) for i = 1, 10 do s = s .. s .. s .. s .. s .. s .. s .. s .. s .. s end",
		"concat":           "local t = {} for i = 1, 1000 do t[i] = ('x'):rep(1e4) end local s = '' while true do s = table.concat(t) end",
		"gsub":             "local s = ('x'):rep(1e4) while true do s = s:gsub('x', 'xx') end",
		"gsub with a text": "return #(('x'):rep(1e5):gsub('x', ('y'):rep(1e5)))",
		"gsub %0":          "return #(('x'):rep(1e6):gsub('x*', ('%0'):rep(1e3)))",
		"format":           "local s = ('x'):rep(1e5) while true do s = string.format('%s%s', s, s) end",
		"index":            "local i = 6e7 local t = {} t[i] = 1",
		"index in pcall":   "while true do pcall(function() local i = 6e7 local t = {} t[i] = 1 end) end",
		"constructor":      "local i = 6e7 return {[i] = 1}",
		"rawset":           "rawset({}, 6e7, 1)",
		"table.insert":     "table.insert({}, 6e7, 1)",
		"cjson":            "local t = {} for i = 1, 1e4 do t[i] = ('x'):rep(1e3) end while true do cjson.encode(t) end",
		"replies":          "redis.call('SET', 'k', ('x'):rep(1e6)) while true do redis.call('GET', 'k') end",
		"arguments":        "local s = ('x'):rep(1e6) while true do redis.call('SET', 'k', s) end",
		"reverse":          "local s = ('x'):rep(1e6) while true do s = s:reverse():upper():lower() end",
		"cjson decode":     "local s = '[' .. ('[],'):rep(1e5) .. '[]]' while true do cjson.decode(s) end",
		"tables of unpack": "local x, t = {}, {} for i = 1, 7000 do x[i] = i end while true do t[#t + 1] = {unpack(x)} end",
		"hash replies":     "for i = 1, 1000 do redis.call('HSET', 'h', i, i) end local t = {} while true do t[#t + 1] = redis.call('HGETALL', 'h') end",
		"reply":            "local t = {1} for i = 1, 60 do t = {t, t} end return t",
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
			defer cancel()
			_, _, err := Run(ctx, Script{Text: text}, nil, nil, newStore(t, Options{Memory: 4 << 20}))
			require.ErrorIs(t, err, ErrMemory)
		})
	}
}

func TestTablesWithoutEndAreStopped(t *testing.T) {
	for _, text := range []string{
		"local t = {} while true do t[#t + 1] = {1, 2, 3, 4} end",
		"local t, i = {}, 0 while true do i = i + 1 t['k' .. i] = i end",
		"local t = {} while true do pcall(function() for i = 1, 1e4 do t = {t} end end) end",
	} {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		_, _, err := Run(ctx, Script{Text: text}, nil, nil, newStore(t, Options{Memory: 8 << 20}))
		cancel()
		require.ErrorIs(t, err, ErrMemory, text)
		runtime.GC()
	}
}

func TestRecursionIsBounded(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		"local function f() return f() + 1 end return f()",
		"local function f() return f() end return f()",
		"local function f() local ok, e = pcall(f) error(e, 0) end return f()",
		"local t = setmetatable({}, {}) getmetatable(t).__index = function(t, k) return t[k .. 'x'] end return t.a",
		"local t = setmetatable({}, {}) getmetatable(t).__tostring = function(t) return tostring(t) end return tostring(t)",
		"local function f() return (('x'):gsub('x', f)) end return f()",
		"local function f() return unpack({}, 1, 7000), f() end return f()",
		"local function f(...) return f(1, ...) + 1 end return f()",
	} {
		_, _, err := Run(context.Background(), Script{Text: text}, nil, nil, nil)
		var e *Error
		require.ErrorAs(t, err, &e, text)
	}
	// behind a pcall the script goes on
	reply, _, err := Run(context.Background(), Script{Text: "local function f() return f() + 1 end return tostring(pcall(f))"}, nil, nil, nil)
	require.NoError(t, err)
	require.Equal(t, "false", reply)
}

func TestTextsThatDoNotCompile(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		"x x", "return 'abc", "goto a ::a::", "local a <const> = 1", "return " + strings.Repeat("(", 10_000), "#!lua name=x\nreturn 1",
		"return " + strings.Repeat("{", 5_000) + strings.Repeat("}", 5_000), "return 1" + strings.Repeat(" .. 1", 5_000),
		"return 1" + strings.Repeat(" + 1", 5_000), strings.Repeat("-", MaxText+1), "\x00", "return \xff",
		"local " + strings.Repeat("a,", 300) + "a = 1", strings.Repeat("do ", 5_000) + strings.Repeat("end ", 5_000),
	} {
		_, _, err := Run(context.Background(), Script{Text: text}, nil, nil, nil)
		require.ErrorIs(t, err, ErrSyntax, "%.60q", text)
	}
	for _, text := range []string{"", "return 1" + strings.Repeat(" .. 1", 150), "return #{" + strings.Repeat("1,", 20_000) + "}"} {
		_, _, err := Run(context.Background(), Script{Text: text}, nil, nil, nil)
		require.NoError(t, err, "%.60q", text)
	}
}

func FuzzRun(f *testing.F) {
	for _, text := range conformance {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_, _, err := Run(ctx, Script{Text: text}, []string{"{s}:anchor"}, []string{"a", "1"}, nil)
		var e *Error
		if err != nil && !errors.As(err, &e) {
			t.Fatal(err)
		}
	})
}

// TestMain sees to it that no test leaves a goroutine behind.
func TestMain(m *testing.M) {
	before := runtime.NumGoroutine()
	code := m.Run()
	if left := leftBehind(before); left != "" && code == 0 {
		fmt.Println("goroutines left behind:\n" + left)
		code = 1
	}
	os.Exit(code)
}

// leftBehind waits for goroutines that are about to end. Those that read from the
// shared servers of the tests and their clients stay.
func leftBehind(before int) string {
	for deadline := time.Now().Add(10 * time.Second); ; {
		var out strings.Builder
		_ = pprof.Lookup("goroutine").WriteTo(&out, 2)
		left := ""
		for g := range strings.SplitSeq(out.String(), "\n\n") {
			if strings.Contains(g, "/luabox.") && !strings.Contains(g, "luabox.TestMain") || strings.Contains(g, "/embedded.") || strings.Contains(g, "miniredis") {
				left += g + "\n\n"
			}
		}
		if left == "" || time.Now().After(deadline) {
			return left
		}
		runtime.Gosched()
	}
}
