package voltage

import (
	"context"
	"maps"
	"slices"
	"time"
)

const (
	// tickPeriod is how often the store is asked to let time have its effect on
	// alarms, and so how late the end of a delay can be noticed without a sample.
	tickPeriod = 100 * time.Millisecond
	// offlineTicks is how many ticks apart the channels are that alarm rules watch.
	offlineTicks = 5
	// awayTicks is how many ticks are left out while the store does not answer.
	awayTicks = 5
	// tickTime is what one call may take.
	tickTime = 2 * time.Second
	// tickCalls is how many calls are made without a pause while more is due.
	tickCalls = 50
	// tickChannels is how many channels are looked at in one call.
	tickChannels = 100
	// retold is how long a problem that comes again is not logged again.
	retold = time.Minute
)

// tickAlarms has delays, shelving and the rules of channels carried out on the
// store, whose clock counts, for as long as the engine runs.
func (e *Engine) tickAlarms(ctx context.Context) {
	failing, told := false, map[string]time.Time{}
	for n := 0; ; n++ {
		var channels []string
		if n%offlineTicks == 0 {
			channels = e.plane.OfflineChannels()
		}
		problems, err := e.tick(ctx, channels)
		wait := tickPeriod
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			if wait = awayTicks * tickPeriod; !failing {
				e.log.Warn("delays and shelving of alarms wait for the store; repeating", "error", err)
			}
		case failing:
			e.log.Info("delays and shelving of alarms go on")
		}
		failing = err != nil
		e.tellProblems(told, problems)
		select {
		case <-ctx.Done():
			return
		case <-e.cfg.Clock.After(wait):
		}
	}
}

// tick looks at these channels, and makes the store do all that is due.
func (e *Engine) tick(ctx context.Context, channels []string) (problems []string, err error) {
	call := func(channels ...string) (more bool) {
		bounded, cancel := context.WithTimeout(ctx, tickTime)
		defer cancel()
		var found []string
		more, found, err = e.plane.AlarmTick(bounded, channels...)
		problems = append(problems, found...)
		return more
	}
	more := true
	for some := range slices.Chunk(channels, tickChannels) {
		if more = call(some...); err != nil {
			return problems, err
		}
	}
	for range tickCalls {
		if !more || err != nil || ctx.Err() != nil {
			return problems, err
		}
		more = call()
	}
	return problems, err
}

// tellProblems logs what went wrong with single rules; what comes again, only once
// in a while. told has what was logged, and when, and under "" that there are more.
func (e *Engine) tellProblems(told map[string]time.Time, problems []string) {
	if len(problems) == 0 {
		return
	}
	now := e.cfg.Clock.Now()
	maps.DeleteFunc(told, func(_ string, at time.Time) bool { return now.Sub(at) >= retold || at.After(now) })
	for _, text := range problems {
		_, known := told[text]
		switch {
		case known:
		case len(told) < maxProblemLines:
			told[text] = now
			e.log.Warn("an alarm rule is left out", "problem", text)
		case len(told) == maxProblemLines:
			told[""] = now
			e.log.Warn("an alarm rule is left out: there are more")
		}
	}
}
