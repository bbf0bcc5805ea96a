package scripts

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/voltageems/voltage/scripts/internal/luabox"
)

// What an operator's tool needs to try a script without harm: the checks that
// need no store, a dry run on copies of the store's keys, and a profile.

// CheckScript does what VerifyScript does without a store: it refuses a name
// that this build does not call (ErrNotFound), another major version
// (ErrVersion), and a script that in this process, on a scratch store, does not
// compile or end, or does otherwise than this build's (ErrRefused).
func CheckScript(ctx context.Context, s Script) error {
	list, err := Scripts()
	if err != nil {
		return err
	}
	all := map[string]Script{}
	for _, own := range list {
		all[own.Name] = own
	}
	own, ok := all[s.Name]
	if !ok {
		return notCalled(s.Name)
	}
	if err := sameMajor(s.Name, s.Version, own.Version); err != nil {
		return err
	}
	return tryHere(ctx, all, own, s)
}

// DryRun is what a call of a script would do.
type DryRun struct {
	// Trace is what it did on the copies. Micros are times in this process: they
	// tell the cheap calls from the dear ones, not what Redis needs. Elapsed has
	// the copying of the keys in it.
	Trace
	// Changes are the parts of keys that would be different afterwards, by key.
	Changes []KeyChange
}

// KeyChange is one part of a key that a call would change.
type KeyChange struct {
	// Key is the whole key, with the site's prefix.
	Key string `json:"key"`
	// Type is what the key is: string, hash, list, set, zset or stream.
	Type string `json:"type"`
	// Part is the field of a hash, the member of a set, the id of a stream's entry
	// or "expiry". Empty for a text and for the items of a list.
	Part string `json:"part,omitempty"`
	// Before and After are its content; nil where it is not there. The content of
	// a set's member is empty; that of an expiry is how long, in seconds.
	Before *string `json:"before"`
	After  *string `json:"after"`
}

// dryRuns bounds how often a dry run is begun anew because the store's data
// changed, and with it the keys that the script writes.
const dryRuns = 5

// DryRun runs a script in this process, as if it were the active version, on
// copies of the keys that it touches. The store gets nothing but commands that
// read; nobody hears what is published. s may be any version; ScriptSource reads
// the active one. The error is that of the store, or says why the run would not
// be true; one of the script is in the trace.
func (p *Plane) DryRun(ctx context.Context, s Script, args ...string) (DryRun, error) {
	clock, err := p.clock(ctx)
	if err != nil {
		return DryRun{}, err
	}
	at := clock() // the same in all runs: there are keys with the time in their names
	var written []string
	for range dryRuns {
		d, err := p.dryRun(ctx, s, args, written, at)
		if err != nil {
			return d, err
		}
		known := len(written)
		for _, c := range d.Calls {
			if c.Writes() {
				written = append(written, c.Keys()...)
			}
		}
		slices.Sort(written)
		if written = slices.Compact(written); len(written) == known {
			return d, nil
		}
	}
	return DryRun{}, fmt.Errorf("%w: dry run of %s: the data changes faster than it can be copied", ErrStore, s.Name)
}

// clock returns the store's clock. It is asked once: a script's TIME would be the
// dearest call of a profile.
func (p *Plane) clock(ctx context.Context) (func() time.Time, error) {
	if p.options.Now != nil {
		return p.options.Now, nil
	}
	at, err := p.client.Time(ctx).Result()
	if err != nil {
		return nil, storeError("reading the store's time", err)
	}
	asked := time.Now()
	return func() time.Time { return at.Add(time.Since(asked)) }, nil
}

// dryRun makes one dry run. The changes are complete where written has every key
// that the script writes: only then is it known what was there before.
func (p *Plane) dryRun(ctx context.Context, s Script, args, written []string, at time.Time) (d DryRun, err error) {
	b, err := p.newBench(ctx, s, func() time.Time { return at })
	if err != nil {
		return d, err
	}
	defer func() { err = errors.Join(err, b.store.Close(ctx)) }()
	before, err := b.contents(ctx, written)
	if err != nil {
		return d, err
	}
	if d.Trace, _, err = b.run(ctx, args); err != nil {
		return d, err
	}
	after, err := b.contents(ctx, written)
	if err != nil {
		return d, err
	}
	d.Changes = changes(written, before, after)
	return d, nil
}

// bench is a scratch store with the site's keys behind it, and a script.
type bench struct {
	p     *Plane
	s     Script
	store *luabox.Store
	keys  []string
}

func (p *Plane) newBench(ctx context.Context, s Script, now func() time.Time) (*bench, error) {
	store, err := luabox.NewStore(luabox.Options{Source: p.client, Now: now})
	if err != nil {
		return nil, err
	}
	b := &bench{p: p, s: s, store: store}
	if p.keys != "" {
		b.keys = []string{p.anchor}
	}
	// else a version that is not active refuses
	if _, err := store.Do(ctx, "SET", p.keys.scriptVersion(s.Name), s.Version); err != nil {
		return nil, errors.Join(storeError("preparing a dry run", err), store.Close(ctx))
	}
	return b, nil
}

func (b *bench) run(ctx context.Context, args []string) (Trace, []luabox.Call, error) {
	t := Trace{Script: b.s.Name, Version: b.s.Version, Args: args}
	began := time.Now()
	reply, calls, err := luabox.Run(ctx, luabox.Script{Text: b.s.Text}, b.keys, args, b.store)
	t.Elapsed = time.Since(began)
	for _, c := range calls {
		call := TracedCall{Protected: c.Protected, Args: c.Args, Reply: plainValue(c.Reply), Err: c.Err, Micros: c.Duration.Microseconds()}
		if file, n := b.s.Source(c.Line); file != "" {
			call.File, call.Line = file, n
		}
		t.Calls = append(t.Calls, call)
	}
	var failed *luabox.Error
	switch {
	case err == nil:
		t.Reply = replyTexts(reply)
	case ctx.Err() != nil:
		return t, calls, ctx.Err()
	case errors.Is(err, luabox.ErrStore), errors.Is(err, luabox.ErrCommand), !errors.As(err, &failed):
		return t, calls, storeError("dry run of "+b.s.Name, err)
	default:
		t.Err = b.s.failed(failed.Message, failed.Line, err)
	}
	return t, calls, nil
}

// replyTexts is a script's reply as its caller sees it.
func replyTexts(reply any) []string {
	list, ok := reply.([]any)
	switch {
	case reply == nil:
		return nil
	case !ok:
		return []string{replyText(plainValue(reply))}
	}
	texts := make([]string, len(list))
	for i, v := range list {
		texts[i] = replyText(plainValue(v))
	}
	return texts
}

// plainValue is a reply with texts in the place of luabox's own types.
func plainValue(v any) any {
	switch v := v.(type) {
	case luabox.Status:
		return string(v)
	case luabox.ReplyError:
		return string(v)
	case []any:
		list := make([]any, len(v))
		for i := range v {
			list[i] = plainValue(v[i])
		}
		return list
	}
	return v
}

// content is what a key holds, part by part. The items of a list, which may be
// equal, are counted.
type content struct {
	kind  string
	parts map[string]string
	items map[string]int
}

func (b *bench) contents(ctx context.Context, names []string) (map[string]content, error) {
	all := map[string]content{}
	for _, name := range names {
		c, err := b.content(ctx, name)
		if err != nil {
			return nil, storeError("dry run: reading "+name, err)
		}
		all[name] = c
	}
	return all, nil
}

func (b *bench) content(ctx context.Context, name string) (content, error) {
	c := content{parts: map[string]string{}, items: map[string]int{}}
	kind, err := b.store.Do(ctx, "TYPE", name)
	if err != nil {
		return c, err
	}
	c.kind = fmt.Sprint(kind)
	read := map[string][]string{"string": {"GET", name}, "hash": {"HGETALL", name}, "set": {"SMEMBERS", name},
		"list": {"LRANGE", name, "0", "-1"}, "zset": {"ZRANGE", name, "0", "-1", "WITHSCORES"}, "stream": {"XRANGE", name, "-", "+"}}[c.kind]
	if read == nil { // not there
		return c, nil
	}
	reply, err := b.store.Do(ctx, read...)
	if err != nil {
		return c, err
	}
	list, _ := reply.([]any)
	switch c.kind {
	case "string":
		c.parts[""] = replyText(plainValue(reply))
	case "hash", "zset":
		for i := 0; i+1 < len(list); i += 2 {
			c.parts[replyText(list[i])] = replyText(list[i+1])
		}
	case "set":
		for _, v := range list {
			c.parts[replyText(v)] = ""
		}
	case "list":
		for _, v := range list {
			c.items[replyText(v)]++
		}
	case "stream":
		for _, v := range list {
			if entry, _ := v.([]any); len(entry) == 2 {
				c.parts[replyText(entry[0])] = entryText(entry[1])
			}
		}
	}
	left, err := b.store.Do(ctx, "PTTL", name)
	if ms, _ := left.(int64); ms > 0 {
		c.parts["expiry"] = fmt.Sprintf("%d s", (ms+999)/1000)
	}
	return c, err
}

func entryText(v any) string {
	list, _ := v.([]any)
	pairs := make([]string, 0, len(list)/2)
	for i := 0; i+1 < len(list); i += 2 {
		pairs = append(pairs, replyText(list[i])+"="+replyText(list[i+1]))
	}
	return strings.Join(pairs, " ")
}

func changes(names []string, before, after map[string]content) (list []KeyChange) {
	for _, name := range names {
		was, is := before[name], after[name]
		kind := is.kind
		if kind == "none" {
			kind = was.kind
		}
		parts := maps.Clone(was.parts)
		maps.Copy(parts, is.parts)
		for _, part := range slices.Sorted(maps.Keys(parts)) {
			a, had := was.parts[part]
			b, has := is.parts[part]
			if had == has && a == b {
				continue
			}
			c := KeyChange{Key: name, Type: kind, Part: part}
			if had {
				c.Before = &a
			}
			if has {
				c.After = &b
			}
			list = append(list, c)
		}
		items := maps.Clone(was.items)
		maps.Copy(items, is.items)
		for _, item := range slices.Sorted(maps.Keys(items)) {
			for range is.items[item] - was.items[item] {
				list = append(list, KeyChange{Key: name, Type: kind, After: &item})
			}
			for range was.items[item] - is.items[item] {
				list = append(list, KeyChange{Key: name, Type: kind, Before: &item})
			}
		}
	}
	return list
}
