package scripts

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/voltageems/voltage/internal/reference"
)

// direct carries out batches of one channel without Lua: the classic way, and
// the Go evaluator's. Everything that decides something is read under WATCH,
// ahead in one round trip where a batch is sure to need it; the writes go out in
// one MULTI, in the order in which the script makes them; and when anything of
// what was read has changed meanwhile, the batch is evaluated again.
type direct struct {
	p       *Plane
	store   directStore
	keys    []string
	args    []string // the script's, as texts
	guarded map[string]bool
	wire    []any // arguments of all writes
	armed   bool  // the connection may have keys under WATCH
}

const (
	// directTries is how often a batch is evaluated because others changed what
	// it reads, before the caller is told and pauses for longer.
	directTries = 50
	// directRounds is how often reads may lead to further reads.
	directRounds = 100
	// directVersion stands in the statistics for the version of the script.
	directVersion = "direct"
)

// errContended is no answer of the store: the same batch is tried again.
var errContended = errors.New("what the batch reads was changed by others all the time")

func newDirect(p *Plane) *direct {
	d := &direct{p: p, guarded: map[string]bool{}}
	d.store = directStore{prefix: string(p.keys), known: map[string][]knownRead{}, over: map[string]*overlay{}}
	if p.keys != "" {
		d.keys = []string{p.anchor}
	}
	p.scripts["data_sync"].stats.learn(directVersion, directVersion)
	return d
}

// sendDirect is send without Lua: the same arguments, the same answers.
func (w *Writer) sendDirect(ctx context.Context, s *activeScript, call []any, points, attempt int, generation string) (reply []string, again bool, err error) {
	if w.direct == nil {
		w.direct = newDirect(w.p)
	}
	began, version := w.p.stats.now(), directVersion
	reply, err = w.direct.run(ctx, call)
	call[1] = &version
	w.p.measure(s, call, points, began, reply, err)
	if err != nil {
		return nil, false, storeError("data_sync without Lua", err)
	}
	if len(reply) > 0 && reply[0] == "GENERATION" && attempt < repairs {
		return nil, true, w.p.recover(ctx, generation)
	}
	return reply, false, nil
}

// run does what the call of the script would.
func (d *direct) run(ctx context.Context, call []any) (reply []string, err error) {
	d.args = d.args[:0]
	for _, a := range call[3+len(d.keys):] {
		switch a := a.(type) {
		case *string:
			d.args = append(d.args, *a)
		case string:
			d.args = append(d.args, a)
		default:
			d.args = append(d.args, fmt.Sprint(a))
		}
	}
	d.store.argv = d.args
	var watched []string
	if _, ok := d.p.client.(*redis.ClusterClient); ok {
		watched = []string{d.p.anchor} // says which node it is; the key itself never exists
	}
	err = d.p.client.Watch(ctx, func(tx *redis.Tx) error {
		d.armed = false
		defer d.release(ctx, tx)
		reply, err = d.transact(ctx, tx)
		return err
	}, watched...)
	d.store.forget()
	return reply, err
}

// release takes the WATCHes off a connection that others will use.
func (d *direct) release(ctx context.Context, tx *redis.Tx) {
	if !d.armed {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	_ = tx.Unwatch(ctx).Err() // a connection on which this fails is broken and not used again
}

func (d *direct) transact(ctx context.Context, tx *redis.Tx) ([]string, error) {
	for try := range directTries {
		if try > 0 && !pause(ctx, rand.N(100*time.Microsecond<<min(try, 8))) {
			return nil, ctx.Err()
		}
		reply, err := d.evaluate(ctx, tx)
		if err != nil || len(d.store.writes) == 0 {
			return reply, err
		}
		failures, err := d.commit(ctx, tx)
		if errors.Is(err, redis.TxFailedErr) {
			continue
		}
		if err != nil {
			return nil, err
		}
		// the script reports them before everything that follows from the values
		return slices.Insert(reply, 1, failures...), nil
	}
	return nil, errContended
}

// evaluate finds out what the batch comes to.
func (d *direct) evaluate(ctx context.Context, tx *redis.Tx) ([]string, error) {
	d.store.forget()
	clear(d.guarded)
	d.store.readAhead(d.p.keys)
	for range directRounds {
		if err := d.fetch(ctx, tx); err != nil {
			return nil, err
		}
		d.store.reset()
		reply, err := reference.Run(&d.store, reference.Script{Name: "data_sync"}, d.keys, d.args)
		if len(d.store.unknown) > 0 {
			continue // it was built on guesses
		}
		var failed *reference.Error
		if errors.As(err, &failed) {
			return nil, storeAnswer(failed.Text)
		}
		for _, r := range d.store.known[d.p.keys.key("alarm", "state")] {
			if r.args[0] == "HLEN" {
				d.store.open = r.reply != int64(0)
			}
		}
		return reply, err
	}
	return nil, storeAnswer("ERR direct: the batch asks for more and more")
}

// fetch makes the reads that are not known yet, all in one round trip.
func (d *direct) fetch(ctx context.Context, tx *redis.Tx) error {
	unknown := d.store.unknown
	if len(unknown) == 0 {
		return nil
	}
	pipe := tx.Pipeline()
	watch := []any{"WATCH"}
	for _, at := range unknown {
		r := &d.store.known[at.key][at.i]
		for _, key := range d.store.keysOf(r.args) {
			if !d.guarded[key] {
				d.guarded[key] = true
				watch = append(watch, key)
			}
		}
	}
	var watching *redis.Cmd
	if len(watch) > 1 {
		watching = pipe.Do(ctx, watch...)
		d.armed = true
	}
	replies := make([]*redis.Cmd, len(unknown))
	for i, at := range unknown {
		replies[i] = pipe.Do(ctx, pointers(nil, d.store.known[at.key][at.i].args)...)
	}
	_, _ = pipe.Exec(ctx) // each command's own error is looked at
	if watching != nil && watching.Err() != nil {
		return watching.Err()
	}
	for i, at := range unknown {
		r := &d.store.known[at.key][at.i]
		reply, err := replies[i].Result()
		switch {
		case err == nil:
			r.reply = flat(reply)
		case isNil(err):
		case isAnswer(err):
			r.reply, r.err = nil, &reference.Error{Text: err.Error()}
		default:
			return err
		}
	}
	return nil
}

// flat makes a list of a map, as a client of the newer protocol gets.
func flat(reply any) any {
	m, ok := reply.(map[any]any)
	if !ok {
		return reply
	}
	list := make([]any, 0, 2*len(m))
	for name, v := range m {
		list = append(list, name, v)
	}
	return list
}

// pointers appends arguments for the client, which takes pointers without an
// allocation each.
func pointers(to []any, args []string) []any {
	for i := range args {
		to = append(to, &args[i])
	}
	return to
}

// commit makes the writes. failures are those that failed, each costing its key
// alone, as the script reports them.
func (d *direct) commit(ctx context.Context, tx *redis.Tx) (failures []string, err error) {
	n := 0
	for i := range d.store.writes {
		n += len(d.store.writes[i].args)
	}
	d.wire = slices.Grow(d.wire[:0], n)
	pipe := tx.TxPipeline()
	commands := make([]*redis.Cmd, len(d.store.writes))
	for i := range d.store.writes {
		from := len(d.wire)
		d.wire = pointers(d.wire, d.store.writes[i].args)
		commands[i] = redis.NewCmd(ctx, d.wire[from:len(d.wire):len(d.wire)]...)
		_ = pipe.Process(ctx, commands[i]) // queues it
	}
	_, err = pipe.Exec(ctx)
	if err == nil || errors.Is(err, redis.TxFailedErr) {
		d.armed = false
		return nil, err
	}
	// The first write is that of the batch's number: when it went well, the
	// transaction was carried out.
	if commands[0].Err() != nil {
		return nil, refusal(commands, err)
	}
	d.armed = false
	for i, c := range commands {
		err := c.Err()
		var answer redis.Error
		switch {
		case err == nil || isNil(err):
		case !errors.As(err, &answer):
			return nil, err // the answer broke off
		case !d.quiet(d.store.writes[i].args[1]):
			failures = append(failures, "write of "+d.store.writes[i].args[1]+": "+answer.Error())
		}
	}
	return failures, nil
}

// quiet: the script does not say that this write failed.
func (d *direct) quiet(key string) bool {
	return strings.HasPrefix(key, string(d.p.keys)+"cmd:") && strings.HasSuffix(key, ":control")
}

// refusal is why a transaction was not carried out: a command that the store did
// not accept says more than the EXECABORT that follows from it.
func refusal(commands []*redis.Cmd, err error) error {
	for _, c := range commands {
		if e := c.Err(); e != nil && !redis.IsExecAbortError(e) {
			return e
		}
	}
	return err
}

// keysOf are the keys of a read that the transaction depends on.
func (d *directStore) keysOf(args []string) []string {
	switch {
	case !d.watched(args):
		return nil
	case args[0] == "MGET":
		return args[1:]
	case args[0] == "XINFO":
		return args[2:]
	}
	return args[1:2]
}

// readAhead notes what the batch is sure to read.
func (d *directStore) readAhead(k keys) {
	argv, fence := d.argv, k.channelPart(d.argv[4], "fence")
	d.want([]string{"MGET", k.generation(), k.scriptVersion("data_sync"), k.anchor()})
	d.want([]string{"HMGET", fence, "epoch", "batch"})
	d.want([]string{"GET", k.mappingVersion()})
	d.want(timersOf(k.key("timers"), strconv.Itoa(dueInBatch+1)))
	if argv[1] == "" {
		d.want([]string{"TIME"})
	}
	counted := false
	for i := 8; i+2 < len(argv); {
		n, _ := strconv.Atoi(argv[i+2])
		switch argv[i] {
		case sectionSet:
			i += 3 + 2*n
		case sectionDelete, sectionTime:
			i += 3 + n
		case sectionTimeAll:
			if n > 0 {
				d.want(append([]string{"HMGET", argv[i+1], "*"}, argv[i+3:i+3+n]...))
			}
			i += 3 + n
		case sectionPublish:
			i += 3
		case sectionQueue:
			if !counted {
				counted = true
				d.want([]string{"HGET", fence, "points"})
			}
			d.want([]string{"TYPE", argv[i+1]})
			i += 5
		case sectionStale:
			n, _ = strconv.Atoi(argv[i+1])
			i += 2 + n
		case sectionAlarms:
			n, _ = strconv.Atoi(argv[i+1])
			d.readStates(k.key("alarm", "state"), argv[i+2:i+2+5*n])
			i += 2 + 5*n
		case sectionRules:
			n, _ = strconv.Atoi(argv[i+1])
			for _, id := range argv[i+2 : i+2+n] {
				d.want([]string{"HMGET", k.key("rule", id), "conditions", "actions", "disabled"})
			}
			i += 2 + n
		default:
			return
		}
	}
}

// readStates notes the states of the batch's alarm rules, which the script reads
// only while any rule is not normal.
func (d *directStore) readStates(key string, rules []string) {
	d.want([]string{"HLEN", key})
	if !d.open {
		return
	}
	const chunk = 1000 // of the script
	for len(rules) > 0 {
		n := min(len(rules), 5*chunk)
		args := make([]string, 0, 2+n/5)
		args = append(args, "HMGET", key)
		for i := 0; i < n; i += 5 {
			args = append(args, rules[i])
		}
		d.want(args)
		rules = rules[n:]
	}
}
