package scripts

import (
	"bytes"
	"context"
	"crypto/rand"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"sort"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/voltageems/voltage/scripts/internal/luabox"
)

//go:embed selftest.jsonl
var selfTestCalls []byte

// Bounds of a self-test.
const (
	// sandboxTime is what all calls of the self-test together may take in this
	// process; they take a fraction of a second.
	sandboxTime = 30 * time.Second
	// sandboxCall is what one call may take: a thousand times what it needs, for
	// the machine may have other things to do.
	sandboxCall = 2 * time.Second
)

// ErrRefused: a script did not pass its verification and must not become active.
var ErrRefused = errors.New("the script is refused")

// VerifyScript finds out whether a script may become active, in this order:
//
//  1. it compiles;
//  2. in this process, on a scratch store, where an endless loop or too much
//     memory harms nobody, it answers and writes what this program's own version
//     does, in every form that there is;
//  3. it loads on every node of the store;
//  4. on the store, in a scratch site of its own that is removed again, the same.
//
// The error wraps ErrRefused and says what differs. Scripts that are to give
// other results, and not only to reach them in another way, come with a new
// build, whose tests and self-test say what is right.
func (p *Plane) VerifyScript(ctx context.Context, s Script) error {
	own, ok := p.scripts[s.Name]
	if !ok {
		return notCalled(s.Name)
	}
	if err := tryHere(ctx, p.ownScripts(), own.own, s); err != nil {
		return err
	}
	if err := p.loadEverywhere(ctx, &s); err != nil {
		if errors.Is(err, ErrScript) {
			return fmt.Errorf("%w: %w", ErrRefused, err)
		}
		return err
	}
	if err := p.storeTest(ctx, own.own, s); err != nil {
		if errors.Is(err, ErrStore) || ctx.Err() != nil {
			return err
		}
		return fmt.Errorf("%w: %w", ErrRefused, err)
	}
	return nil
}

// tryHere is what a script has to pass before any store sees it.
func tryHere(ctx context.Context, all map[string]Script, own, s Script) error {
	if len(s.Text) > MaxScript {
		return fmt.Errorf("%w: %s has %d bytes: at most %d", ErrRefused, s.Name, len(s.Text), MaxScript)
	}
	if err := sandboxTest(ctx, all, own, s); err != nil {
		if ctx.Err() != nil {
			return fmt.Errorf("script %s: the self-test was not finished: %w", s.Name, ctx.Err())
		}
		return fmt.Errorf("%w: %w", ErrRefused, err)
	}
	return nil
}

func notCalled(name string) error {
	return fmt.Errorf("script %.64q: %w: this program calls no script of that name", name, ErrNotFound)
}

func (p *Plane) ownScripts() map[string]Script {
	all := map[string]Script{}
	for name, s := range p.scripts {
		all[name] = s.own
	}
	return all
}

// scratch is a place where the calls of a self-test are made.
type scratch interface {
	// run makes one call of a script. The reply of a script that fails is its error.
	run(ctx context.Context, s Script, args []string) (any, error)
	// mappingVersion is the site's.
	mappingVersion(ctx context.Context) (string, error)
	// dump returns every key with what it holds.
	dump(ctx context.Context) (map[string]string, error)
}

// selfTest makes the calls of the self-test, with one script in the place of
// another of the same name, and returns what each answered. It stops at the
// first call that fails.
func selfTest(ctx context.Context, in scratch, prefix string, all map[string]Script, candidate Script) (replies []string, err error) {
	err = eachCall(func(number int, call []string) error {
		version, err := in.mappingVersion(ctx)
		if err != nil {
			return err
		}
		args := make([]string, len(call)-1)
		for i, a := range call[1:] {
			args[i] = strings.ReplaceAll(strings.ReplaceAll(a, "{P}", prefix), "{V}", version)
		}
		s := all[call[0]]
		if s.Name == candidate.Name {
			s = candidate
		}
		reply, err := in.run(ctx, s, args)
		if errors.Is(err, luabox.ErrSyntax) {
			return err // no call of it is to blame
		}
		if err != nil {
			return fmt.Errorf("call %d, %s: %w", number, shown(call), err)
		}
		replies = append(replies, plainReply(reply))
		return nil
	})
	return replies, err
}

// eachCall goes through the calls of the self-test.
func eachCall(f func(number int, call []string) error) error {
	number := 0
	for line := range bytes.Lines(selfTestCalls) {
		line = bytes.TrimSpace(line)
		if len(line) == 0 || line[0] == '#' {
			continue
		}
		number++
		var call []string
		if err := json.Unmarshal(line, &call); err != nil {
			return fmt.Errorf("selftest.jsonl, call %d: %w", number, err)
		}
		if err := f(number, call); err != nil {
			return err
		}
	}
	return nil
}

// compareTests says what the first difference between two runs is.
func compareTests(candidate Script, want, got []string, wantKeys, gotKeys map[string]string) error {
	err := eachCall(func(number int, call []string) error {
		if want[number-1] != got[number-1] {
			return fmt.Errorf("script %s %s: call %d, %s, answered %s instead of %s",
				candidate.Name, candidate.Version, number, shown(call), cut(got[number-1], 300), cut(want[number-1], 300))
		}
		return nil
	})
	if err != nil {
		return err
	}
	names := map[string]bool{}
	for key := range wantKeys {
		names[key] = true
	}
	for key := range gotKeys {
		names[key] = true
	}
	for _, key := range slices.Sorted(maps.Keys(names)) {
		if wantKeys[key] != gotKeys[key] {
			return fmt.Errorf("script %s %s: after the self-test %s is %s instead of %s",
				candidate.Name, candidate.Version, key, cut(gotKeys[key], 300), cut(wantKeys[key], 300))
		}
	}
	return nil
}

func shown(call []string) string { return cut(strings.Join(call, " "), 120) }

func cut(s string, n int) string {
	switch {
	case s == "":
		return "nothing"
	case len(s) > n:
		return s[:n] + "…"
	}
	return s
}

// entryID is the id of a stream entry: it has the time of the run in it.
var entryID = regexp.MustCompile(`\b\d{13}-\d+\b`)

// plainReply is a reply as text, without what differs from run to run.
func plainReply(reply any) string {
	text, err := json.Marshal(reply)
	if err != nil {
		return fmt.Sprint(reply)
	}
	return entryID.ReplaceAllString(string(text), "<entry>")
}

// plainJSON orders the fields of a notification, which Lua writes in any order.
func plainJSON(text string) string {
	var v any
	if json.Unmarshal([]byte(text), &v) != nil {
		return text
	}
	b, err := json.Marshal(v)
	if err != nil {
		return text
	}
	return string(b)
}

// sandbox runs scripts in this process.
type sandbox struct{ store *luabox.Store }

func (b *sandbox) run(ctx context.Context, s Script, args []string) (any, error) {
	ctx, cancel := context.WithTimeout(ctx, sandboxCall)
	defer cancel()
	reply, _, err := luabox.Run(ctx, luabox.Script{Text: s.Text}, []string{"anchor"}, args, b.store)
	var at *luabox.Error
	if errors.As(err, &at) {
		file, line := s.Source(at.Line)
		return nil, &ScriptError{Script: s.Name, Version: s.Version, File: file, Line: line, Message: at.Message, cause: err}
	}
	return reply, err
}

func (b *sandbox) mappingVersion(ctx context.Context) (string, error) {
	reply, err := b.store.Do(ctx, "GET", "mapping:version")
	version, _ := reply.(string)
	return version, err
}

func (b *sandbox) dump(ctx context.Context) (map[string]string, error) {
	names, err := b.store.Keys(ctx)
	if err != nil {
		return nil, err
	}
	all := map[string]string{}
	for _, name := range names {
		if all[name], err = dumpKey(func(args ...string) (any, error) { return b.store.Do(ctx, args...) }, name); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// sandboxTest compares a candidate with this program's own version in this process.
func sandboxTest(ctx context.Context, all map[string]Script, own, candidate Script) error {
	ctx, cancel := context.WithTimeout(ctx, sandboxTime)
	defer cancel()
	try := func(s Script) (replies []string, keys map[string]string, err error) {
		store, err := luabox.NewStore(luabox.Options{})
		if err != nil {
			return nil, nil, err
		}
		defer func() { err = errors.Join(err, store.Close(ctx)) }()
		box := &sandbox{store}
		if replies, err = selfTest(ctx, box, "", all, s); err != nil {
			return nil, nil, err
		}
		keys, err = box.dump(ctx)
		return replies, keys, err
	}
	got, gotKeys, err := try(candidate)
	if err != nil {
		return err
	}
	want, wantKeys, err := try(own)
	if err != nil {
		return err
	}
	return compareTests(candidate, want, got, wantKeys, gotKeys)
}

// scratchSite runs scripts on the store, in a site that nobody else has.
type scratchSite struct {
	p *Plane
	k keys
}

func (b *scratchSite) run(ctx context.Context, s Script, args []string) (any, error) {
	call := []any{"EVALSHA", s.SHA, "1", b.k.anchor()}
	for _, a := range args {
		call = append(call, a)
	}
	reply, err := b.p.client.Do(ctx, call...).Result()
	if err != nil {
		if redis.HasErrorPrefix(err, "NOSCRIPT") {
			node, err := b.p.nodeOf(ctx, b.k.anchor()) // may be another than this site's
			if err != nil {
				return nil, err
			}
			if err := node.ScriptLoad(ctx, s.Text).Err(); err != nil {
				return nil, scriptError(&s, err)
			}
			return b.run(ctx, s, args)
		}
		return nil, scriptError(&s, err)
	}
	return reply, nil
}

func (b *scratchSite) mappingVersion(ctx context.Context) (string, error) {
	version, err := b.p.client.Get(ctx, b.k.mappingVersion()).Result()
	if err != nil && !isNil(err) {
		return "", storeError("reading the mapping version of a self-test", err)
	}
	return version, nil
}

func (b *scratchSite) call(ctx context.Context) func(args ...string) (any, error) {
	return func(args ...string) (any, error) {
		list := make([]any, len(args))
		for i, a := range args {
			list[i] = a
		}
		reply, err := b.p.client.Do(ctx, list...).Result()
		if isNil(err) {
			return nil, nil
		}
		return reply, err
	}
}

func (b *scratchSite) dump(ctx context.Context) (map[string]string, error) {
	names, err := b.p.siteKeys(ctx, b.k)
	if err != nil {
		return nil, err
	}
	all := map[string]string{}
	for _, name := range names {
		text, err := dumpKey(b.call(ctx), name)
		if err != nil {
			return nil, storeError("reading what a self-test wrote", err)
		}
		all[strings.TrimPrefix(name, string(b.k))] = strings.ReplaceAll(text, string(b.k), "")
	}
	return all, nil
}

// remove deletes everything that a self-test wrote.
func (b *scratchSite) remove(ctx context.Context) error {
	names, err := b.p.siteKeys(ctx, b.k)
	if err != nil || len(names) == 0 {
		return err
	}
	return storeError("removing what a self-test wrote", b.p.client.Del(ctx, names...).Err())
}

// storeTest compares a candidate with this program's own version on the store.
func (p *Plane) storeTest(ctx context.Context, own, candidate Script) error {
	all := p.ownScripts()
	at, err := p.removeScratch(ctx)
	if err != nil {
		return err
	}
	try := func(s Script) (replies []string, written map[string]string, err error) {
		k := keys(fmt.Sprintf("%s%s%d-%s:", p.keys, scratchName, at.UnixMilli(), strings.ToLower(rand.Text())))
		site := &scratchSite{p, k}
		defer func() {
			clean, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
			defer cancel()
			err = errors.Join(err, site.remove(clean))
		}()
		if replies, err = selfTest(ctx, site, string(k), all, s); err != nil {
			return nil, nil, err
		}
		for i := range replies {
			replies[i] = strings.ReplaceAll(replies[i], string(k), "")
		}
		written, err = site.dump(ctx)
		return replies, written, err
	}
	got, gotKeys, err := try(candidate)
	if err != nil {
		return err
	}
	want, wantKeys, err := try(own)
	if err != nil {
		return err
	}
	return compareTests(candidate, want, got, wantKeys, gotKeys)
}

// The keys of a scratch site are in the slot of the site itself and begin with
// its prefix, for the store's user may have the right to no others.
const (
	scratchName = "selftest-"
	// scratchKept is how long after its beginning a self-test may still run.
	scratchKept = time.Hour
)

// removeScratch deletes what self-tests left behind that were killed, and returns
// the store's time.
func (p *Plane) removeScratch(ctx context.Context) (time.Time, error) {
	node, err := p.nodeOf(ctx, p.anchor)
	if err != nil {
		return time.Time{}, err
	}
	now, err := node.Time(ctx).Result()
	if err != nil {
		return now, storeError("reading the time of the store", err)
	}
	left, err := p.siteKeys(ctx, p.keys+scratchName)
	if err != nil {
		return now, err
	}
	left = slices.DeleteFunc(left, func(key string) bool {
		began, _, _ := strings.Cut(strings.TrimPrefix(key, string(p.keys)+scratchName), "-")
		ms, err := strconv.ParseInt(began, 10, 64)
		return err != nil || now.Sub(time.UnixMilli(ms)) < scratchKept
	})
	if len(left) == 0 {
		return now, nil
	}
	return now, storeError("removing what a self-test left behind", p.client.Del(ctx, left...).Err())
}

// siteKeys lists all keys of a site.
func (p *Plane) siteKeys(ctx context.Context, k keys) ([]string, error) {
	node, err := p.nodeOf(ctx, k.anchor())
	if err != nil {
		return nil, err
	}
	seen := map[string]bool{}
	scan := node.Scan(ctx, 0, string(k)+"*", 2000).Iterator()
	for scan.Next(ctx) {
		seen[scan.Val()] = true
	}
	if err := scan.Err(); err != nil {
		return nil, storeError("listing the keys of a site", err)
	}
	return slices.Sorted(maps.Keys(seen)), nil
}

// dumpKey shows one key: its type, whether it expires, and its content in an
// order that is always the same.
func dumpKey(call func(args ...string) (any, error), name string) (string, error) {
	kind, err := call("TYPE", name)
	if err != nil {
		return "", err
	}
	read := map[string][]string{"string": {"GET", name}, "hash": {"HGETALL", name}, "set": {"SMEMBERS", name},
		"list": {"LRANGE", name, "0", "-1"}, "zset": {"ZRANGE", name, "0", "-1", "WITHSCORES"}, "stream": {"XRANGE", name, "-", "+"}}[fmt.Sprint(kind)]
	if read == nil {
		return fmt.Sprintf("a key of type %v", kind), nil
	}
	content, err := call(read...)
	if err != nil {
		return "", err
	}
	ttl, err := call("PTTL", name)
	if err != nil {
		return "", err
	}
	expires := ""
	if n, _ := ttl.(int64); n >= 0 {
		expires = " (expires)"
	}
	var text string
	switch fmt.Sprint(kind) {
	case "hash":
		list := textList(content)
		pairs := make([]string, 0, len(list)/2)
		for i := 0; i+1 < len(list); i += 2 {
			pairs = append(pairs, fmt.Sprintf("%q=%q", list[i], list[i+1]))
		}
		sort.Strings(pairs)
		text = strings.Join(pairs, " ")
	case "set":
		text = plainReply(slices.Sorted(slices.Values(textList(content))))
	case "list":
		list := textList(content)
		for i := range list {
			list[i] = plainJSON(list[i])
		}
		text = plainReply(list)
	case "string":
		text = fmt.Sprint(content)
	default:
		text = plainReply(content)
	}
	return entryID.ReplaceAllString(text, "<entry>") + expires, nil
}

// textList returns the texts of a reply that is a list of them. RESP 3 has maps.
func textList(reply any) []string {
	var all []string
	switch list := reply.(type) {
	case []any:
		for _, v := range list {
			all = append(all, fmt.Sprint(v))
		}
	case map[any]any:
		for k, v := range list {
			all = append(all, fmt.Sprint(k), fmt.Sprint(v))
		}
	}
	return all
}
