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
	// probationCall is what a call of a version on probation may take before
	// somebody looks whether it hangs. All of Redis hangs with it.
	probationCall = time.Second
)

// onProbation reports whether a version is new enough to be blamed for errors.
func (p *Plane) onProbation(s *activeScript, script *Script) bool {
	if p.options.Probation < 0 {
		return false
	}
	if script != s.active.Load() {
		return true // a trial is one for as long as it lasts
	}
	since := s.since.Load()
	return since != 0 && p.localTime().Sub(time.UnixMilli(since)) < p.probation()
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
// the sample is not lost while nobody knows yet.
func (p *Plane) judge(ctx context.Context, s *activeScript, script *Script, cause error) (again bool) {
	if !p.onProbation(s, script) || ctx.Err() != nil {
		return false
	}
	calls, failed := s.stats.window(script.Version, p.stats.now())
	if failed < probationErrors || failed*probationShare < calls {
		return true
	}
	return p.goBack(ctx, s, script, fmt.Sprintf("%d of the last %d calls failed, the last one with: %.300s", failed, calls, plain(cause)))
}

// goBack ends a trial, or goes back to the version before. It reports whether
// another version is in use now.
func (p *Plane) goBack(ctx context.Context, s *activeScript, script *Script, reason string) bool {
	by := Change{By: "auto", Reason: reason}
	var err error
	if script != s.active.Load() {
		err = p.endCanary(ctx, s.own.Name, "canary_refused", script.Version, by)
	} else if _, err = p.rollback(ctx, s.own.Name, script.Version, by); err == nil {
		err = p.follow(ctx, s)
	}
	if err != nil {
		p.log.Error("a failing script could not be rolled back", "script", s.own.Name, "version", script.Version, "because", reason, "error", err)
		return false
	}
	return true
}

// plain makes an error fit for the journal.
func plain(err error) string {
	return strings.Join(strings.FieldsFunc(err.Error(), func(r rune) bool { return r < ' ' }), " ")
}

// hanging is told that a call of a version on probation was not answered in
// time. Where the script still runs, which holds up every client of the store,
// it is killed and the version before is used. It reports whether another
// version is in use now.
//
// A script that has written before it hangs cannot be killed (UNKILLABLE): only
// ending the server helps then, and the error says so.
func (p *Plane) hanging(ctx context.Context, s *activeScript, script *Script) bool {
	killed := false
	for attempt := 0; ctx.Err() == nil && attempt < 10; attempt++ {
		err := p.killScript(ctx)
		switch {
		case err == nil: // it ends soon: the next answer is NOTBUSY
			killed, attempt = true, 0
		case killed && redis.HasErrorPrefix(err, "NOTBUSY"):
			return p.goBack(ctx, s, script, "a call hung for more than "+probationCall.String()+" and was killed")
		case redis.HasErrorPrefix(err, "NOTBUSY"), redis.HasErrorPrefix(err, "ERR unknown"):
			return false // it was the network, or the script has ended
		case redis.HasErrorPrefix(err, "UNKILLABLE"):
			p.log.Error("a script hangs after it has written; only ending the redis-server helps", "script", s.own.Name, "version", script.Version)
			return false
		}
		if !pause(ctx, backoff(attempt)) {
			break
		}
	}
	return false
}

// killScript ends the script that runs on the site's node.
func (p *Plane) killScript(ctx context.Context) error {
	node, err := p.nodeOf(ctx, p.anchor)
	if err != nil {
		return err
	}
	return node.ScriptKill(ctx).Err()
}

// isFault reports whether an error says that the script itself is at fault. A
// key that another program keeps something else in is not the script's fault.
func isFault(err error) bool {
	return errors.Is(err, ErrScript)
}
