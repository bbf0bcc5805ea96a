package scripts

import (
	"context"
	"crypto/sha1"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"

	"github.com/redis/go-redis/v9"
)

// activeScript is a script of this build and the one that is active on the
// store, which may be another version with the same major number.
type activeScript struct {
	own    Script
	active atomic.Pointer[Script]
}

func newActiveScript(s Script) *activeScript {
	a := &activeScript{own: s}
	a.active.Store(&s)
	return a
}

// activate makes this build's script the active one unless a newer one is, and
// loads the active one.
func (p *Plane) activate(ctx context.Context, s *activeScript) error {
	current, err := p.client.Get(ctx, p.keys.scriptVersion(s.own.Name)).Result()
	if err != nil && !errors.Is(err, redis.Nil) {
		return storeError("reading the version of "+s.own.Name, err)
	}
	if current == "" || current == s.own.Version {
		return p.publish(ctx, s)
	}
	order, err := compareVersions(s.own.Version, current)
	if err != nil {
		return err
	}
	if order >= 0 {
		return p.publish(ctx, s)
	}
	return p.follow(ctx, s)
}

// publish stores and loads this build's script as the active one.
func (p *Plane) publish(ctx context.Context, s *activeScript) error {
	if err := p.load(ctx, &s.own); err != nil {
		return err
	}
	_, err := p.client.TxPipelined(ctx, func(tx redis.Pipeliner) error {
		tx.Set(ctx, p.keys.scriptSource(s.own.Name, s.own.Version), s.own.Text, 0)
		tx.SAdd(ctx, p.keys.scriptLoaded(s.own.Version), s.own.Name)
		tx.Set(ctx, p.keys.scriptSHA(s.own.Name), s.own.SHA, 0)
		tx.Set(ctx, p.keys.scriptVersion(s.own.Name), s.own.Version, 0)
		return nil
	})
	if err != nil {
		return storeError("activating "+s.own.Name, err)
	}
	s.active.Store(&s.own)
	return nil
}

// follow loads whatever version is active on the store. A different major
// version has another contract and is refused.
func (p *Plane) follow(ctx context.Context, s *activeScript) error {
	version, err := p.client.Get(ctx, p.keys.scriptVersion(s.own.Name)).Result()
	if errors.Is(err, redis.Nil) {
		return p.publish(ctx, s)
	}
	if err != nil {
		return storeError("reading the version of "+s.own.Name, err)
	}
	if version == s.own.Version {
		if err := p.load(ctx, &s.own); err != nil {
			return err
		}
		s.active.Store(&s.own)
		return nil
	}
	theirs, err := parseVersion(version)
	if err != nil {
		return err
	}
	ours, err := parseVersion(s.own.Version)
	if err != nil {
		return err
	}
	if theirs[0] != ours[0] {
		return fmt.Errorf("%w: script %s is active as %s, this program calls %d.x", ErrVersion, s.own.Name, version, ours[0])
	}
	text, err := p.client.Get(ctx, p.keys.scriptSource(s.own.Name, version)).Result()
	if errors.Is(err, redis.Nil) {
		return fmt.Errorf("%w: script %s is active as %s, whose source is not on the store", ErrVersion, s.own.Name, version)
	}
	if err != nil {
		return storeError("reading the source of "+s.own.Name, err)
	}
	sum := sha1.Sum([]byte(text))
	other := &Script{Name: s.own.Name, Version: version, Text: text, SHA: hex.EncodeToString(sum[:])}
	if err := p.load(ctx, other); err != nil {
		return err
	}
	s.active.Store(other)
	return nil
}

// load puts a script into the script cache, on a cluster into every node's.
func (p *Plane) load(ctx context.Context, s *Script) error {
	sha, err := p.client.ScriptLoad(ctx, s.Text).Result()
	if err != nil {
		return storeError("loading script "+s.Name, err)
	}
	if sha != s.SHA {
		return fmt.Errorf("%w %s: the store answered %s for %s", ErrScript, s.Name, sha, s.SHA)
	}
	return nil
}

// call runs a script whose first arguments are an operation, the time and the
// generation, and answers its reply with the code first. Lost scripts, another
// active version and lost data are repaired and the call is repeated; a broken
// connection is the caller's to decide.
func (p *Plane) call(ctx context.Context, name, op string, args ...any) ([]string, error) {
	s := p.scripts[name]
	full := make([]any, 0, 7+len(args))
	for attempt := 0; ; attempt++ {
		generation := *p.generation.Load()
		inner, isRestoring := ctx.Value(restoringKey{}).(restoring)
		if isRestoring {
			generation = inner.generation
		}
		full = p.head(full[:0], s)
		full = append(full, op, p.now(), generation)
		full = append(full, args...)
		reply, again, err := p.send(ctx, s, full, attempt, generation, isRestoring)
		if err != nil {
			return nil, err
		}
		if again {
			continue
		}
		return reply, codeError(name, reply)
	}
}

// head appends what every call begins with.
func (p *Plane) head(args []any, s *activeScript) []any {
	args = append(args, "EVALSHA", &s.active.Load().SHA)
	if p.keys == "" {
		return append(args, "0")
	}
	return append(args, "1", &p.anchor)
}

// repairs bounds how often one call is repeated after a repair: data that is
// lost again and again, or two programs that fight over the active version,
// are an error to report and no reason to go on for ever.
const repairs = 5

// send makes one call. again means that something was repaired and the caller
// builds the call anew.
func (p *Plane) send(ctx context.Context, s *activeScript, args []any, attempt int, generation string, isRestoring bool) (reply []string, again bool, err error) {
	cmd := redis.NewCmd(ctx, args...)
	_ = p.client.Process(ctx, cmd) // the error is cmd's
	reply, err = cmd.StringSlice()
	switch {
	case err != nil && strings.HasPrefix(err.Error(), "NOSCRIPT"):
		if attempt >= repairs {
			return nil, false, storeError("script "+s.own.Name, err)
		}
		return nil, true, p.follow(ctx, s)
	case err != nil:
		return nil, false, storeError("script "+s.own.Name, err)
	case len(reply) == 0 || attempt >= repairs:
		return reply, false, nil
	case reply[0] == "INACTIVE":
		return nil, true, p.follow(ctx, s)
	case reply[0] == "GENERATION" && !isRestoring:
		return nil, true, p.recover(ctx, generation)
	}
	return reply, false, nil
}
