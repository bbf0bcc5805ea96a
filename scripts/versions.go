package scripts

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
)

// activeScript is a script of this build and the one that is active on the
// store, which may be another version with the same major number.
type activeScript struct {
	own    Script
	active atomic.Pointer[Script]
	// since is when the active version took the place of another one, by the clock
	// of this host; nil where there is none to go back to.
	since atomic.Pointer[time.Time]
	stats *scriptStats
}

func newActiveScript(s Script) *activeScript {
	a := &activeScript{own: s, stats: newScriptStats(s.Name)}
	a.active.Store(&s)
	return a
}

// adopt takes a version that is active and loaded. since is zero where there is
// no version to go back to.
func (s *activeScript) adopt(script *Script, since time.Time) {
	s.since.Store(nil)
	if !since.IsZero() {
		s.since.Store(&since)
	}
	if s.active.Load().SHA != script.SHA {
		s.active.Store(script)
	}
}

// activate makes this build's script the active one where none is, or where the
// active one is older. After the data was lost, it is the version that was active
// before, also where another engine was quicker with an older one. Otherwise the
// active one is followed:
//
//   - a newer one, which another program brought, or an operator;
//   - one of the same number with another text: an operator's, or that of a
//     build that forgot to raise the number;
//   - an older one, where this build's was rolled back before.
func (p *Plane) activate(ctx context.Context, s *activeScript) error {
	current, err := p.client.Get(ctx, p.keys.scriptVersion(s.own.Name)).Result()
	if err != nil && !errors.Is(err, redis.Nil) {
		return storeError("reading the version of "+s.own.Name, err)
	}
	wanted := s.active.Load() // at the start this build's
	if current == "" {
		return p.publish(ctx, s, wanted)
	}
	if current == wanted.Version {
		return p.follow(ctx, s)
	}
	order, err := compareVersions(wanted.Version, current)
	if err != nil {
		return err
	}
	if order == 0 {
		p.log.Warn("another text with the same version number is active; this program follows it",
			"site", p.options.Site, "script", s.own.Name, "active", current, "own", s.own.Version)
	}
	if order <= 0 {
		return p.follow(ctx, s)
	}
	why, err := p.client.HGet(ctx, p.keys.scriptRefused(s.own.Name), wanted.Version).Result()
	if err != nil && !isNil(err) && !isAnswer(err) {
		return storeError("reading the refused versions of "+s.own.Name, err)
	}
	if why != "" {
		p.log.Warn("this program's script was rolled back before and is not activated again",
			"site", p.options.Site, "script", s.own.Name, "active", current, "own", wanted.Version, "why", why)
		return p.follow(ctx, s)
	}
	return p.publish(ctx, s, wanted)
}

// publish loads a script and makes it the active one, unless a newer one became
// active meanwhile, or this one was rolled back.
func (p *Plane) publish(ctx context.Context, s *activeScript, script *Script) error {
	if err := p.load(ctx, script); err != nil {
		return err
	}
	_, err := p.switchScript(ctx, *script, "activated", Change{By: "start"}, func(st ScriptState) error { return newerAndWelcome(*script, st) })
	if errors.Is(err, ErrConflict) {
		return p.follow(ctx, s)
	}
	return err
}

// follow loads whatever version is active on the store. A different major
// version has another contract and is refused.
func (p *Plane) follow(ctx context.Context, s *activeScript) error {
	pipe := p.client.Pipeline()
	active, since := pipe.Get(ctx, p.keys.scriptVersion(s.own.Name)), pipe.Get(ctx, p.keys.scriptSince(s.own.Name))
	earlier := pipe.LLen(ctx, p.keys.scriptHistory(s.own.Name))
	_, _ = pipe.Exec(ctx) // each command's own error is looked at
	version, err := active.Result()
	if errors.Is(err, redis.Nil) {
		return p.publish(ctx, s, s.active.Load())
	}
	if err != nil {
		return storeError("reading the version of "+s.own.Name, err)
	}
	script := &s.own
	if known := s.active.Load(); known.Version == version {
		script = known
	} else if version != s.own.Version {
		if err := sameMajor(s.own.Name, version, s.own.Version); err != nil {
			return err
		}
		text, err := p.client.Get(ctx, p.keys.scriptSource(s.own.Name, version)).Result()
		if errors.Is(err, redis.Nil) {
			return fmt.Errorf("%w: script %s is active as %s, whose source is not on the store", ErrVersion, s.own.Name, version)
		}
		if err != nil {
			return storeError("reading the source of "+s.own.Name, err)
		}
		other := newScript(s.own.Name, version, text)
		script = &other
	}
	if err := p.load(ctx, script); err != nil {
		return err
	}
	at := time.Time{}
	if earlier.Val() > 0 {
		at = p.byLocalClock(ctx, millis(since.Val()))
	}
	s.adopt(script, at)
	return nil
}

// load puts a script into the script cache of the node that has the site. On a
// cluster the other nodes get it too, as far as they answer: the site's slot may
// move there, and a script that is missing then is only loaded later.
func (p *Plane) load(ctx context.Context, s *Script) error {
	node, err := p.nodeOf(ctx, p.anchor)
	if err != nil {
		return err
	}
	sha, err := node.ScriptLoad(ctx, s.Text).Result()
	if err != nil {
		return scriptError(s, err)
	}
	if sha != s.SHA {
		return fmt.Errorf("%w %s: the store answered %s for %s", ErrScript, s.Name, sha, s.SHA)
	}
	return nil
}

// loadEverywhere is load, and tells what the other nodes of a cluster say.
func (p *Plane) loadEverywhere(ctx context.Context, s *Script) error {
	if err := p.load(ctx, s); err != nil {
		return err
	}
	cluster, ok := p.client.(*redis.ClusterClient)
	if !ok {
		return nil
	}
	short, cancel := context.WithTimeout(ctx, everywhereTime)
	defer cancel()
	err := cluster.ForEachShard(short, func(ctx context.Context, node *redis.Client) error {
		if err := node.ScriptLoad(ctx, s.Text).Err(); err != nil {
			p.log.Warn("a node of the cluster did not take a script; it is loaded there when it is needed",
				"node", node.Options().Addr, "script", s.Name, "version", s.Version, "error", err)
		}
		return nil
	})
	if err != nil && ctx.Err() == nil {
		p.log.Warn("the nodes of the cluster are not known", "error", err)
	}
	return nil
}

// everywhereTime bounds how long nodes that do not answer hold up an activation.
const everywhereTime = 2 * time.Second

// nodeOf is the node that has a key, and with it all keys of its site.
func (p *Plane) nodeOf(ctx context.Context, key string) (redis.UniversalClient, error) {
	cluster, ok := p.client.(*redis.ClusterClient)
	if !ok {
		return p.client, nil
	}
	node, err := cluster.MasterForKey(ctx, key)
	if err != nil {
		return nil, storeError("finding the site's node", err)
	}
	return node, nil
}
