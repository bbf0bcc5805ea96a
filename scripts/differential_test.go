package scripts_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/voltageems/voltage/internal/reference"
	"github.com/voltageems/voltage/scripts"
	"github.com/voltageems/voltage/scripts/storetest"
)

// The differential fuzz: the same calls to the scripts on the embedded store, on
// redis-server, and to their Go counterpart on a store in memory have to give
// the same replies, keys and messages. differential_gen_test.go makes the calls.

// step is one call: of a script, or of another program ("raw", a Redis command
// whose first argument is a key). In the arguments, "@x" is the key x of the
// site, and "$x" something that is read from the store at that moment, see resolve.
type step []string

func (s step) String() string {
	quoted := make([]string, len(s))
	for i, a := range s {
		quoted[i] = strconv.Quote(a)
	}
	return strings.Join(quoted, " ")
}

func parseStep(line string) (s step, err error) {
	for rest := strings.TrimSpace(line); rest != ""; rest = strings.TrimLeft(rest, " ") {
		q, err := strconv.QuotedPrefix(rest)
		if err != nil {
			return nil, fmt.Errorf("%w in %s", err, rest)
		}
		a, err := strconv.Unquote(q)
		if err != nil {
			return nil, fmt.Errorf("%w in %s", err, rest)
		}
		s, rest = append(s, a), rest[len(q):]
	}
	return s, nil
}

// contender is one of the stores with what runs the scripts there.
type contender interface {
	reference.Store
	run(script reference.Script, keys, args []string) ([]string, error)
	dump(prefix string) (map[string]reference.Key, error)
	messages() ([]reference.Message, error)
	close()
}

// contest has the clients and scripts that all cases share.
type contest struct {
	clients  map[string]redis.UniversalClient
	scripts  map[string]scripts.Script
	recorder *recorder
}

func newContest(t testing.TB) *contest {
	c := &contest{clients: map[string]redis.UniversalClient{"embedded": storetest.Embedded(t), "redis": storetest.Client(t, storetest.Redis(t))},
		scripts: map[string]scripts.Script{}, recorder: &recorder{}}
	c.clients["embedded"].AddHook(c.recorder)
	list, err := scripts.Scripts()
	require.NoError(t, err)
	for _, s := range list {
		c.scripts[s.Name] = s
		for _, client := range c.clients {
			require.NoError(t, client.ScriptLoad(t.Context(), s.Text).Err())
		}
	}
	return c
}

// match is one case: the contenders on an empty site.
type match struct {
	c          *contest
	prefix     string
	names      []string // of the contenders, "reference" first
	contenders []contender
	writers    *writers
	played     int64          // steps so far
	seen       map[string]int // kinds of replies, to see what the generator reaches
}

var matches atomic.Int64

func (c *contest) newMatch() (*match, error) {
	m := &match{c: c, prefix: fmt.Sprintf("{diff%d-%d}:", os.Getpid(), matches.Add(1)), seen: map[string]int{}}
	// a step takes a while: a queue that was lost begins with other ids
	m.add("reference", &memoryContender{Memory: reference.NewMemory(func() time.Time { return time.UnixMilli(start + m.played) })})
	for _, name := range slices.Sorted(maps.Keys(c.clients)) {
		client := c.clients[name]
		sub := client.PSubscribe(context.Background(), m.prefix+"*")
		if _, err := sub.Receive(context.Background()); err != nil {
			return nil, err
		}
		m.add(name, &redisContender{client: client, match: m, sub: sub})
	}
	return m, nil
}

func (m *match) add(name string, c contender) {
	m.names, m.contenders = append(m.names, name), append(m.contenders, c)
}

func (m *match) close() {
	for _, c := range m.contenders {
		c.close()
	}
}

type memoryContender struct{ *reference.Memory }

func (c *memoryContender) run(script reference.Script, keys, args []string) ([]string, error) {
	return reference.Run(c.Memory, script, keys, args)
}
func (c *memoryContender) dump(string) (map[string]reference.Key, error) { return c.Dump(), nil }
func (c *memoryContender) messages() ([]reference.Message, error)        { return c.Published(), nil }
func (c *memoryContender) close()                                        {}

type redisContender struct {
	client redis.UniversalClient
	match  *match
	sub    *redis.PubSub
	got    []reference.Message
	marks  int
}

func anys(list []string) []any {
	all := make([]any, len(list))
	for i, s := range list {
		all[i] = s
	}
	return all
}

func (c *redisContender) Call(args ...string) (any, error) {
	reply, err := c.client.Do(context.Background(), anys(args)...).Result()
	if errors.Is(err, redis.Nil) {
		return nil, nil
	}
	return reply, err
}

func (c *redisContender) run(script reference.Script, keys, args []string) ([]string, error) {
	loaded := c.match.c.scripts[script.Name]
	reply, err := c.client.EvalSha(context.Background(), loaded.SHA, keys, anys(args)...).StringSlice()
	if redis.HasErrorPrefix(err, "NOSCRIPT") { // other tests flush the scripts of the shared server
		return c.client.Eval(context.Background(), loaded.Text, keys, anys(args)...).StringSlice()
	}
	return reply, err
}

func (c *redisContender) close() {
	_ = c.sub.Close()
	if names, err := c.client.Keys(context.Background(), c.match.prefix+"*").Result(); err == nil && len(names) > 0 {
		c.client.Del(context.Background(), names...)
	}
}

// messages returns all so far: a mark says where the newest are.
func (c *redisContender) messages() ([]reference.Message, error) {
	c.marks++
	mark := strconv.Itoa(c.marks)
	if err := c.client.Publish(context.Background(), c.match.prefix+"mark", mark).Err(); err != nil {
		return nil, err
	}
	for {
		msg, err := c.sub.ReceiveTimeout(context.Background(), 20*time.Second)
		if err != nil {
			return nil, err
		}
		switch msg := msg.(type) {
		case *redis.Message:
			if msg.Channel == c.match.prefix+"mark" {
				if msg.Payload == mark {
					return c.got, nil
				}
				continue
			}
			if strings.HasPrefix(msg.Channel, c.match.prefix+"lua:") { // of the Writer's Plane
				continue
			}
			c.got = append(c.got, reference.Message{Channel: msg.Channel, Text: msg.Payload})
		}
	}
}

func (c *redisContender) dump(prefix string) (map[string]reference.Key, error) {
	ctx := context.Background()
	names, err := c.client.Keys(ctx, prefix+"*").Result()
	if err != nil || len(names) == 0 {
		return nil, err
	}
	types, ttls := make([]*redis.StatusCmd, len(names)), make([]*redis.DurationCmd, len(names))
	if _, err := c.client.Pipelined(ctx, func(p redis.Pipeliner) error {
		for i, name := range names {
			types[i], ttls[i] = p.Type(ctx, name), p.PTTL(ctx, name)
		}
		return nil
	}); err != nil {
		return nil, err
	}
	contents := make([]redis.Cmder, len(names))
	if _, err := c.client.Pipelined(ctx, func(p redis.Pipeliner) error {
		for i, name := range names {
			switch types[i].Val() {
			case "string":
				contents[i] = p.Get(ctx, name)
			case "hash":
				contents[i] = p.HGetAll(ctx, name)
			case "set":
				contents[i] = p.SMembers(ctx, name)
			case "list":
				contents[i] = p.LRange(ctx, name, 0, -1)
			case "zset":
				contents[i] = p.ZRangeWithScores(ctx, name, 0, -1)
			case "stream":
				contents[i] = p.Do(ctx, "XRANGE", name, "-", "+")
			}
		}
		return nil
	}); err != nil {
		return nil, err
	}
	all := map[string]reference.Key{}
	for i, name := range names {
		k := reference.Key{Type: types[i].Val(), TTL: max(ttls[i].Val(), 0)}
		switch cmd := contents[i].(type) {
		case *redis.StringCmd:
			k.Text = cmd.Val()
		case *redis.MapStringStringCmd:
			k.Hash = cmd.Val()
		case *redis.StringSliceCmd:
			k.List = cmd.Val()
			if k.Type == "set" {
				slices.Sort(k.List)
			}
		case *redis.ZSliceCmd:
			k.Scores = map[string]float64{}
			for _, z := range cmd.Val() {
				k.Scores[z.Member.(string)] = z.Score
			}
		case *redis.Cmd:
			entries, _ := cmd.Slice()
			for _, e := range entries {
				e := e.([]any)
				entry := reference.StreamEntry{ID: e[0].(string)}
				for _, f := range e[1].([]any) {
					entry.Fields = append(entry.Fields, f.(string))
				}
				k.Stream = append(k.Stream, entry)
			}
		}
		all[name] = k
	}
	return all, nil
}

// resolve turns the arguments of a step into those of a contender.
func (m *match) resolve(c contender, args []string) []string {
	get := func(args ...string) string {
		reply, _ := c.Call(args...)
		s, _ := reply.(string)
		return s
	}
	resolved := slices.Clone(args)
	for i, a := range resolved {
		if key, ok := strings.CutPrefix(a, "@"); ok {
			resolved[i] = m.prefix + key
			continue
		}
		if !strings.HasPrefix(a, "$") {
			continue
		}
		what, of, _ := strings.Cut(a[1:], ":")
		switch what {
		case "version": // of the mapping
			resolved[i] = get("GET", m.prefix+"mapping:version")
		case "epoch": // of a channel
			resolved[i] = get("HGET", m.prefix+"comsrv:"+of+":fence", "epoch")
		case "batch": // the next number of a channel
			n, _ := strconv.Atoi(get("HGET", m.prefix+"comsrv:"+of+":fence", "batch"))
			resolved[i] = strconv.Itoa(n + 1)
		case "entry": // of a command; in another channel's queue it would be any entry's, or none
			resolved[i] = get("HGET", m.prefix+"command:"+of, "entry")
			if resolved[i] == "" || get("HGET", m.prefix+"command:"+of, "channel") != args[4] {
				resolved[i] = "1-1"
			}
		case "lua": // the version of a script
			resolved[i] = m.c.scripts[of].Version
		}
	}
	return resolved
}

// play makes one step everywhere and returns what differs.
func (m *match) play(s step) (difference string) {
	if s[0] == "writer" && !m.writable() {
		return ""
	}
	m.played++
	if s[0] == "writer" {
		return m.playWriter(s)
	}
	var want string
	for i, c := range m.contenders {
		args := m.resolve(c, s[1:])
		var got string
		if s[0] == "raw" {
			if _, err := c.Call(args...); err != nil {
				got = sameError(err.Error())
			}
		} else {
			script := m.c.scripts[s[0]]
			reply, err := c.run(reference.Script{Name: script.Name, Version: script.Version}, []string{m.prefix + "anchor"}, args)
			got = canonicalOutcome(reply, err)
			if err == nil {
				kind := s[0]
				if len(s) > 1 && kind != "alarm_tick" && kind != "alarm_check" {
					kind += " " + s[1]
				}
				m.seen[kind+" "+reply[0]]++
			}
		}
		if i == 0 {
			want = got
		} else if got != want {
			return fmt.Sprintf("reply of %s:\n  reference: %s\n  %s: %s", s, want, m.names[i], got)
		}
	}
	return ""
}

// compare returns what differs in the keys and messages.
func (m *match) compare() (difference string) {
	var want map[string]reference.Key
	var wantMessages []reference.Message
	for i, c := range m.contenders {
		keys, err := c.dump(m.prefix)
		if err != nil {
			return m.names[i] + ": " + err.Error()
		}
		got, err := c.messages()
		if err != nil {
			return m.names[i] + ": " + err.Error()
		}
		canonicalKeys(keys, m.prefix)
		if i == 0 {
			want, wantMessages = keys, got
			continue
		}
		for _, name := range slices.Sorted(maps.Keys(keys)) {
			if _, ok := want[name]; !ok {
				return fmt.Sprintf("key %s:\n  reference: none\n  %s: %+v", name, m.names[i], keys[name])
			}
		}
		for _, name := range slices.Sorted(maps.Keys(want)) {
			if d := want[name].TTL - keys[name].TTL; d.Abs() < time.Minute && (want[name].TTL > 0) == (keys[name].TTL > 0) {
				k := keys[name] // the clocks of the stores differ a little
				k.TTL = want[name].TTL
				keys[name] = k
			}
			if !reflect.DeepEqual(want[name], keys[name]) {
				return fmt.Sprintf("key %s:\n  reference: %+v\n  %s: %+v", name, want[name], m.names[i], keys[name])
			}
		}
		for j := range max(len(got), len(wantMessages)) {
			if j >= len(got) || j >= len(wantMessages) || got[j] != wantMessages[j] {
				return fmt.Sprintf("message %d:\n  reference: %q\n  %s: %q", j, wantMessages[min(j, len(wantMessages)):], m.names[i], got[min(j, len(got)):])
			}
		}
	}
	return ""
}

// sameError keeps of an error what all stores say alike.
func sameError(text string) string {
	if strings.Contains(text, "WRONGTYPE") {
		return "WRONGTYPE"
	}
	return "ERR"
}

// errorText is how the error of a command, or of Lua, begins in a line of a report.
var errorText = regexp.MustCompile(`WRONGTYPE|ERR |(user_script|<string>)?:\d+: `)

func canonicalOutcome(reply []string, err error) string {
	if err != nil {
		return "error: " + sameError(err.Error())
	}
	return canonicalReply(reply)
}

// canonicalReply cuts errors of the store to what all stores say alike, and
// leaves out the id of a stream's entry.
func canonicalReply(reply []string) string {
	list := slices.Clone(reply)
	for i, line := range list {
		if i > 0 && reply[i-1] == "entry" && line != "" {
			list[i] = "<entry>"
			continue
		}
		if at := errorText.FindStringIndex(line); at != nil {
			list[i] = line[:at[0]] + sameError(line[at[0]:])
		}
	}
	return fmt.Sprintf("%q", list)
}

// canonicalKeys takes out of a dump what may differ: the ids of entries, the
// order of fields in a notification, and streams without entries.
func canonicalKeys(keys map[string]reference.Key, prefix string) {
	for name, k := range keys {
		switch {
		case strings.HasPrefix(name, prefix+"lua:"), strings.HasPrefix(name, prefix+"site:"): // the Writer's Plane has more of them
			delete(keys, name)
			continue
		case k.Type == "stream":
			if len(k.Stream) == 0 {
				delete(keys, name)
				continue
			}
			for i := range k.Stream {
				k.Stream[i].ID = ""
			}
		case k.Type == "hash" && k.Hash["entry"] != "":
			k.Hash["entry"] = "<entry>"
		case k.Type == "list" && name == prefix+"notification:queue":
			for i, text := range k.List {
				k.List[i] = canonicalJSON(text)
			}
		case k.Type == "hash" && name == prefix+"alarm:shelved":
			k.Hash = maps.Clone(k.Hash)
			for rule, text := range k.Hash {
				k.Hash[rule] = canonicalJSON(text)
			}
		}
		if len(k.Hash) == 0 {
			k.Hash = nil
		}
		if len(k.List) == 0 {
			k.List = nil
		}
		keys[name] = k
	}
}

// canonicalJSON orders fields and writes texts in one way.
func canonicalJSON(text string) string {
	var v any
	if json.Unmarshal([]byte(text), &v) != nil {
		return text
	}
	again, _ := json.Marshal(v)
	return string(again)
}

// comparedEvery is after how many steps keys and messages are compared.
const comparedEvery = 12

// replay plays steps on an empty site and returns what differs, and where.
func (c *contest) replay(steps []step, seen map[string]int) (difference string, at int) {
	m, err := c.newMatch()
	if err != nil {
		return err.Error(), 0
	}
	defer m.close()
	if seen != nil {
		m.seen = seen
	}
	for i, s := range steps {
		if d := m.play(s); d != "" {
			return d, i + 1
		}
		if i%comparedEvery == comparedEvery-1 || i == len(steps)-1 {
			if d := m.compare(); d != "" {
				return d, i + 1
			}
		}
	}
	return "", len(steps)
}

// shrink returns the fewest steps that it finds within a while that still differ.
func (c *contest) shrink(steps []step, difference string) ([]step, string) {
	until := time.Now().Add(20 * time.Second)
	for size := max(len(steps)/2, 1); ; {
		removed := false
		for from := 0; from < len(steps) && time.Now().Before(until); {
			fewer := slices.Concat(steps[:from], steps[min(from+size, len(steps)):])
			if d, at := c.replay(fewer, nil); d != "" {
				steps, difference, removed = fewer[:at], d, true
			} else {
				from += size
			}
		}
		if time.Now().After(until) || size == 1 && !removed {
			return steps, difference
		}
		size = max(size/2, 1)
	}
}

// check replays steps and fails the test with the fewest that differ.
func (c *contest) check(t testing.TB, steps []step, seen map[string]int) {
	t.Helper()
	difference, at := c.replay(steps, seen)
	if difference == "" {
		return
	}
	fewest, difference := c.shrink(steps[:at], difference)
	var text strings.Builder
	for _, s := range fewest {
		fmt.Fprintln(&text, s)
	}
	t.Fatalf("%s\n\nafter these calls (a fixture for testdata/differential):\n%s", difference, text.String())
}

// How long the steps of one seed are: long enough that states build up, short
// enough to shrink.
const stepsPerSeed = 150

func TestDifferential(t *testing.T) {
	t.Parallel()
	c := newContest(t)
	length := 4 * time.Second
	if os.Getenv("VOLTAGE_CI") == "1" && !storetest.Raced { // it has one goroutine
		length = time.Minute
	}
	if os.Getenv("VOLTAGE_LONG") == "1" {
		length = 10 * time.Minute
	}
	if deadline, ok := t.Deadline(); ok { // leaves time to shrink a failure
		length = min(length, time.Until(deadline)-time.Minute)
	}
	first := uint64(time.Now().UnixNano())
	if s := os.Getenv("VOLTAGE_SEED"); s != "" { // a failure names its seed: again with that one first
		n, err := strconv.ParseUint(s, 10, 64)
		require.NoError(t, err)
		first = n
	}
	seen := map[string]int{}
	until := time.Now().Add(length)
	seeds := 0
	for ; (seeds == 0 || time.Now().Before(until)) && !t.Failed(); seeds++ {
		seed := first + uint64(seeds)
		t.Run(fmt.Sprint("seed-", seed), func(t *testing.T) {
			g := newGenerator(&dice{random: rand.New(rand.NewPCG(seed, seed))})
			c.check(t, g.steps(stepsPerSeed), seen)
		})
	}
	t.Logf("%d seeds of %d steps", seeds, stepsPerSeed)
	if testing.Verbose() {
		for _, kind := range slices.Sorted(maps.Keys(seen)) {
			t.Logf("%7d %s", seen[kind], kind)
		}
	}
}

func FuzzDifferential(f *testing.F) {
	f.Add([]byte("site"))
	c := newContest(f)
	f.Fuzz(func(t *testing.T, data []byte) {
		g := newGenerator(&dice{data: data, bounded: true})
		c.check(t, g.steps(stepsPerSeed), nil)
	})
}

// TestDifferentialFixtures replays every difference that was ever found.
func TestDifferentialFixtures(t *testing.T) {
	t.Parallel()
	c := newContest(t)
	files, err := filepath.Glob("testdata/differential/*.txt")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			text, err := os.ReadFile(file)
			require.NoError(t, err)
			var steps []step
			for line := range strings.Lines(string(text)) {
				if strings.HasPrefix(line, "#") || strings.TrimSpace(line) == "" {
					continue
				}
				s, err := parseStep(line)
				require.NoError(t, err)
				steps = append(steps, s)
			}
			difference, at := c.replay(steps, nil)
			require.Empty(t, difference, "after %d calls", at)
		})
	}
}

// Other tests take the scripts away from the server that all share.
func TestDifferentialOutlivesAFlush(t *testing.T) {
	t.Parallel()
	c := newContest(t)
	m, err := c.newMatch()
	require.NoError(t, err)
	defer m.close()
	require.NoError(t, c.clients["embedded"].ScriptFlush(t.Context()).Err())
	require.Empty(t, m.play(step{"data_sync", "c2m", "1001", "3", "0.100000", strconv.FormatInt(start, 10)}))
	require.Empty(t, m.compare())
}
