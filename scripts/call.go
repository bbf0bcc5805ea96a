package scripts

import (
	"context"
	"strings"

	"github.com/redis/go-redis/v9"
)

// call runs a script whose first arguments are an operation (op is empty for a
// script that has only one), the time and the generation, and answers its reply
// with the code first. Lost scripts, another active version and lost data are
// repaired and the call is repeated, as is one that a version on probation has
// failed; a broken connection is the caller's to decide.
func (p *Plane) call(ctx context.Context, name, op string, args ...any) ([]string, error) {
	s := p.scripts[name]
	full := make([]any, 0, 7+len(args))
	for attempt := 0; ; attempt++ {
		generation := *p.generation.Load()
		inner, isRestoring := ctx.Value(restoringKey{}).(restoring)
		if isRestoring {
			generation = inner.generation
		}
		script := s.active.Load()
		full = p.head(full[:0], script)
		if op != "" {
			full = append(full, op)
		}
		full = append(full, p.now(), generation)
		full = append(full, args...)
		reply, again, err := p.send(ctx, s, script, full, 0, attempt, generation, isRestoring)
		if again && err == nil {
			continue
		}
		if err == nil {
			err = codeError(name, reply)
		}
		if err == nil {
			return reply, nil
		}
		if attempt >= repairs || !isFault(reply, err) || !p.judge(ctx, s, script, err, attempt) {
			return reply, err // some refusals carry a record
		}
	}
}

// head appends what every call of a script begins with.
func (p *Plane) head(args []any, script *Script) []any {
	args = append(args, "EVALSHA", &script.SHA)
	if p.keys == "" {
		return append(args, "0")
	}
	return append(args, "1", &p.anchor)
}

// repairs bounds how often one call is repeated after a repair: data that is
// lost again and again, or two programs that fight over the active version,
// are an error to report and no reason to go on for ever.
const repairs = 5

// send makes one call of a version of a script, for a batch of so many points.
// again means that something was repaired and the caller builds the call anew.
func (p *Plane) send(ctx context.Context, s *activeScript, script *Script, args []any, points, attempt int, generation string, isRestoring bool) (reply []string, again bool, err error) {
	reply, err = p.watched(ctx, s, script, func(ctx context.Context) ([]string, error) { return p.process(ctx, s, args, points) })
	return p.settle(ctx, s, script, reply, err, attempt, generation, isRestoring)
}

// settle repairs what an answer says is to be repaired.
func (p *Plane) settle(ctx context.Context, s *activeScript, script *Script, reply []string, err error, attempt int, generation string, isRestoring bool) ([]string, bool, error) {
	switch {
	case err != nil && strings.HasPrefix(err.Error(), "NOSCRIPT"):
		if attempt >= repairs {
			return nil, false, storeError("script "+s.own.Name, err)
		}
		return nil, true, p.reload(ctx, s, script)
	case err != nil:
		return nil, false, scriptError(script, err)
	case len(reply) == 0 || attempt >= repairs:
		return reply, false, nil
	case reply[0] == "INACTIVE":
		return nil, true, p.inactive(ctx, s, script)
	case reply[0] == "GENERATION" && !isRestoring:
		return nil, true, p.recover(ctx, generation)
	}
	return reply, false, nil
}

// reload puts a version back that the store's cache has lost: the active one
// from its stored source, and one that is on trial from here. On a cluster every
// node gets it, for the site's slot may have moved just now.
func (p *Plane) reload(ctx context.Context, s *activeScript, script *Script) error {
	if script.SHA != s.active.Load().SHA {
		return p.loadEverywhere(ctx, script)
	}
	if err := p.follow(ctx, s); err != nil {
		return err
	}
	if _, ok := p.client.(*redis.ClusterClient); ok {
		return p.loadEverywhere(ctx, s.active.Load())
	}
	return nil
}

// inactive finds out which version is to be used instead.
func (p *Plane) inactive(ctx context.Context, s *activeScript, script *Script) error {
	if script.SHA != s.active.Load().SHA {
		return p.followSwitches(ctx)
	}
	return p.follow(ctx, s)
}
