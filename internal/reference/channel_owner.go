package reference

import (
	"math"
	"strings"
)

// channelOwner is channel_owner: one engine at a time polls and writes a channel.
func (r *run) channelOwner() []string {
	op, given := r.opt(1)
	if refusal := r.guard(3, 0); refusal != nil {
		return refusal
	}
	now, channel := r.nowArg(2), r.arg(4)
	owner, fence, status := r.key("comsrv:", channel, ":owner"), r.key("comsrv:", channel, ":fence"), r.key("comsrv:", channel, ":status")
	epoch, known := r.text("HGET", fence, "epoch")
	if op == "acquire" {
		engine := r.arg(5)
		held, ok := r.text("GET", owner)
		if holder, _, whole := strings.Cut(held, ":"); ok && (!whole || holder != engine) {
			return []string{"HELD", held}
		}
		last, _ := number(epoch)
		next := rounded(math.Max(last+1, mustNumber(now)))
		r.call("HSET", fence, "epoch", next, "batch", "0")
		r.call("SET", owner, engine+":"+next, "PX", r.arg(6))
		return []string{"OK", next}
	}
	if mine, _ := r.opt(6); !known || mine != epoch {
		return []string{"FENCED", epoch}
	}
	switch op {
	case "renew":
		r.call("SET", owner, r.arg(5)+":"+epoch, "PX", r.arg(7))
		if len(r.argv) > 8 {
			r.call(append([]string{"HSET", status}, r.argv[7:]...)...)
		}
		return []string{"OK", epoch}
	case "release":
		r.call("DEL", owner)
		last, _ := number(epoch)
		r.call("HSET", fence, "epoch", rounded(last+1)) // what is still under way comes too late
		if len(r.argv) > 7 {
			r.call(append([]string{"HSET", status}, r.argv[6:]...)...)
		}
		return []string{"OK", epoch}
	}
	if !given {
		op = "nil"
	}
	return []string{"INVALID", `unknown operation "` + op + `"`}
}
