package scripts

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// A version that became active, or was put on trial for some channels, is on
// probation for a while: when it fails, the engine goes back to the version
// before by itself.
const (
	// DefaultProbation is how long, see Options.Probation.
	DefaultProbation = time.Hour
	// Of the calls of the last 2 s, at least probationErrors and one in
	// probationShare must have failed.
	probationErrors = 2
	probationShare  = 20
	// A call that fails so often in a row would fail for ever, however well all
	// others go.
	probationTries = 4
	// probationCall is what a call of a version on probation may take before
	// somebody looks whether it hangs. All of Redis hangs with it.
	probationCall = time.Second
	// hangingTime is how long somebody looks. Redis lets nobody kill a script
	// before its lua-time-limit is over, by default 5 s.
	hangingTime = 15 * time.Second
)

// onProbation reports whether a version is new enough to be blamed for errors.
func (p *Plane) onProbation(s *activeScript, script *Script) bool {
	if p.options.Probation < 0 {
		return false
	}
	if script.SHA != s.active.Load().SHA {
		return true // a trial is one for as long as it lasts
	}
	since := s.since.Load()
	return since != nil && p.localTime().Sub(*since) < p.probation()
}

func (p *Plane) probation() time.Duration {
	if p.options.Probation == 0 {
		return DefaultProbation
	}
	return p.options.Probation
}

// judge is told that a call of a version failed for a reason that lies in the
// script. It reports whether the call is to be made again: with the version
// before, once this one has failed too often, else with the same one, so that
// the sample is not lost while nobody knows yet. attempt counts the tries of this
// call before.
func (p *Plane) judge(ctx context.Context, s *activeScript, script *Script, cause error, attempt int) (again bool) {
	if !p.onProbation(s, script) || ctx.Err() != nil {
		return false
	}
	if wasKilled(cause) {
		return p.goBack(ctx, s, script, "a call hung for more than "+probationCall.String()+" and was killed")
	}
	calls, failed := s.stats.window(script.Version, p.stats.now())
	if attempt < probationTries-1 && (failed < probationErrors || failed*probationShare < calls) {
		return true
	}
	return p.goBack(ctx, s, script, fmt.Sprintf("%d of the last %d calls failed, the last one with: %.300s", failed, calls, plain(cause)))
}

// goBack ends a trial, or goes back to the version before. It reports whether
// another version is in use now.
func (p *Plane) goBack(ctx context.Context, s *activeScript, script *Script, reason string) bool {
	by := Change{By: "auto", Reason: reason}
	var err error
	if script.SHA != s.active.Load().SHA {
		err = p.endCanary(ctx, s.own.Name, "canary_refused", script.Version, by)
	} else if _, err = p.rollback(ctx, s.own.Name, script.Version, by); err == nil {
		err = p.follow(ctx, s)
	}
	if err != nil {
		p.log.Error("a failing script could not be rolled back", "script", s.own.Name, "version", script.Version, "because", reason, "error", err)
		return errors.Is(err, ErrStore) && !isAnswer(err) // it may be done: the next try tells
	}
	return true
}

// plain makes an error fit for the journal.
func plain(err error) string {
	return strings.Join(strings.FieldsFunc(err.Error(), func(r rune) bool { return r < ' ' }), " ")
}

// watched makes one call. When that of a version on probation is not answered in
// time, somebody looks whether it hangs. The call itself is waited for as ever:
// what was sent may still be carried out.
func (p *Plane) watched(ctx context.Context, s *activeScript, script *Script, call func(context.Context) ([]string, error)) ([]string, error) {
	if !p.onProbation(s, script) {
		return call(ctx)
	}
	if s.stats.of(script.SHA) == nil {
		s.stats.learn(script.SHA, script.Version) // so that judge finds its errors
	}
	answered := make(chan struct{})
	look := time.AfterFunc(probationCall, func() {
		// also when the caller has gone: the store does not
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), hangingTime)
		defer cancel()
		p.hanging(ctx, s, script, answered)
	})
	reply, err := call(ctx)
	look.Stop()
	var answer redis.Error
	if err == nil || errors.As(err, &answer) {
		close(answered)
	}
	return reply, err
}

// hanging is told that a call of a version on probation was not answered in time.
// Where that call runs, which holds up every client of the store, it is killed;
// its answer is then that it was, or, where nobody waits for that any more, the
// version before is used from here on.
//
// Which script runs is not told by the store. But once it answers anybody, by
// BUSY, it answers all calls so but the one that runs.
//
// A script that has written before it hangs cannot be killed (UNKILLABLE): only
// ending the server helps then, and the error says so.
func (p *Plane) hanging(ctx context.Context, s *activeScript, script *Script, answered <-chan struct{}) {
	for attempt, killed := 0, false; ctx.Err() == nil; attempt++ {
		err := p.pingNode(ctx)
		select {
		case <-answered:
			return
		default:
		}
		switch {
		case err == nil && killed:
			p.goBack(ctx, s, script, "a call hung for more than "+probationCall.String()+" and was killed")
			return
		case err == nil, errors.Is(err, redis.ErrClosed), redis.HasErrorPrefix(err, "LOADING"):
			return // it was the network, or the script has ended
		case redis.HasErrorPrefix(err, "BUSY "):
			if killed {
				break // it ends soon
			}
			wait := time.NewTimer(probationCall / 5)
			select {
			case <-answered: // it is somebody else's script that runs
				wait.Stop()
				return
			case <-wait.C:
			}
			err = p.killScript(ctx)
			killed = err == nil
			if redis.HasErrorPrefix(err, "UNKILLABLE") {
				p.log.Error("a script hangs after it has written; only ending the redis-server helps", "script", s.own.Name, "version", script.Version)
				return
			}
		}
		if !pause(ctx, backoff(min(attempt, 2))) {
			return
		}
	}
}

// pingNode asks the site's node for a sign of life.
func (p *Plane) pingNode(ctx context.Context) error {
	node, err := p.nodeOf(ctx, p.anchor)
	if err != nil {
		return err
	}
	return node.Ping(ctx).Err()
}

// killScript ends the script that runs on the site's node.
func (p *Plane) killScript(ctx context.Context) error {
	node, err := p.nodeOf(ctx, p.anchor)
	if err != nil {
		return err
	}
	return node.ScriptKill(ctx).Err()
}

// wasKilled reports whether an error is that of a script that somebody killed.
func wasKilled(err error) bool { return strings.Contains(err.Error(), "killed by user") }

// isFault reports whether an answer says that the script itself is at fault. A
// key that another program keeps something else in is not the script's fault, nor
// is what it refuses by a code.
func isFault(reply []string, err error) bool {
	if len(reply) > 0 {
		if _, known := codeErrors[reply[0]]; known {
			return false
		}
	}
	return errors.Is(err, ErrScript)
}
