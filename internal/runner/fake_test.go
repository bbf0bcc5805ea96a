package runner

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/voltageems/voltage/channel"
	"github.com/voltageems/voltage/model"
)

// fake is a driver whose calls a test can replace.
type fake struct {
	onConnect func(context.Context) error
	onRead    func(context.Context) ([]model.Sample, error)
	onWrite   func(context.Context, channel.Write) (channel.Outcome, error)
	onClose   func(context.Context) error

	feed chan []model.Sample // what Read returns
	down chan struct{}       // every token ends a Read with ErrNotConnected

	connects, reads, writes, closes atomic.Int64
	inside                          atomic.Int64 // of Connect, Read and the like
	overlaps                        atomic.Int64

	mu     sync.Mutex
	values []float64 // that were written
	points []string  // the same, of which points; see record
}

func newFake() *fake {
	return &fake{feed: make(chan []model.Sample), down: make(chan struct{}, 1)}
}

func (f *fake) enter() func() {
	if f.inside.Add(1) > 1 {
		f.overlaps.Add(1)
	}
	return func() { f.inside.Add(-1) }
}

func (f *fake) Connect(ctx context.Context) error {
	defer f.enter()()
	f.connects.Add(1)
	if f.onConnect != nil {
		return f.onConnect(ctx)
	}
	return nil
}

func (f *fake) Read(ctx context.Context) ([]model.Sample, error) {
	defer f.enter()()
	f.reads.Add(1)
	if f.onRead != nil {
		return f.onRead(ctx)
	}
	return f.readFeed(ctx)
}

func (f *fake) readFeed(ctx context.Context) ([]model.Sample, error) {
	select {
	case samples := <-f.feed:
		return samples, nil
	case <-f.down:
		return nil, fmt.Errorf("%w: cable pulled", channel.ErrNotConnected)
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (f *fake) Write(ctx context.Context, w channel.Write) (channel.Outcome, error) {
	f.writes.Add(1)
	f.mu.Lock()
	f.values = append(f.values, w.Value)
	f.mu.Unlock()
	if f.onWrite != nil {
		return f.onWrite(ctx, w)
	}
	return channel.Outcome{Result: channel.Confirmed, ReadBack: &w.Value}, nil
}

func (f *fake) written() []float64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]float64(nil), f.values...)
}

func (f *fake) Close(ctx context.Context) error {
	f.closes.Add(1)
	if f.onClose != nil {
		return f.onClose(ctx)
	}
	return nil
}

// selecting is a fake whose device wants points selected first.
type selecting struct {
	*fake
	onSelect func(context.Context, channel.Write) (channel.Outcome, error)
	selects  atomic.Int64
}

func (f *selecting) Select(ctx context.Context, w channel.Write) (channel.Outcome, error) {
	f.selects.Add(1)
	return f.onSelect(ctx, w)
}

// readOnly hides Write.
type readOnly struct{ channel.Driver }

func sample(point string, v float64) model.Sample { return model.Sample{Point: point, Value: v} }

// interceptor stands between a client and the store.
type interceptor struct {
	mu   sync.Mutex
	drop map[string]int           // operation → replies that get lost yet
	hold map[string]chan struct{} // operation → closed when it may go on; "" is every one
	ran  map[string]func()        // operation → called between the answer and its arrival, once
	seen map[string]int           // operation → calls
	held map[string]int           // operation → calls that are held back now
}

func intercept(client redis.UniversalClient) *interceptor {
	i := &interceptor{drop: map[string]int{}, hold: map[string]chan struct{}{}, ran: map[string]func(){}, seen: map[string]int{}, held: map[string]int{}}
	client.AddHook(i)
	return i
}

// lose has the next n replies to an operation get lost.
func (i *interceptor) lose(op string, n int) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.drop[op] = n
}

// block holds back an operation until the returned function is called.
func (i *interceptor) block(op string) (release func()) {
	i.mu.Lock()
	defer i.mu.Unlock()
	c := make(chan struct{})
	i.hold[op] = c
	return sync.OnceFunc(func() {
		i.mu.Lock()
		delete(i.hold, op)
		i.mu.Unlock()
		close(c)
	})
}

// after has f run once when an operation was answered, before the answer
// arrives.
func (i *interceptor) after(op string, f func()) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.ran[op] = f
}

func (i *interceptor) count(op string) int {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.seen[op]
}

func (i *interceptor) wait(op string, n int) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.held[op] += n
}

// waits reports whether a call is held back now.
func (i *interceptor) waits(op string) bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.held[op] > 0
}

var errLost = errors.New("the reply got lost")

func (i *interceptor) DialHook(next redis.DialHook) redis.DialHook { return next }

func (i *interceptor) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

func (i *interceptor) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		op := operation(cmd)
		i.mu.Lock()
		i.seen[op]++
		hold, all := i.hold[op], i.hold[""]
		i.mu.Unlock()
		for _, c := range []chan struct{}{hold, all} {
			if c == nil {
				continue
			}
			i.wait(op, 1)
			select {
			case <-c:
				i.wait(op, -1)
			case <-ctx.Done():
				i.wait(op, -1)
				return ctx.Err()
			}
		}
		err := next(ctx, cmd)
		i.mu.Lock()
		f := i.ran[op]
		delete(i.ran, op)
		lost := i.drop[op] > 0
		if lost {
			i.drop[op]--
		}
		i.mu.Unlock()
		if f != nil {
			f()
		}
		if lost {
			err = fmt.Errorf("%w: %w", errLost, io.ErrUnexpectedEOF)
			cmd.SetErr(err)
		}
		return err
	}
}

// operation returns the first argument of a script call, else the command's name.
func operation(cmd redis.Cmder) string {
	args := cmd.Args()
	if cmd.Name() == "evalsha" && len(args) > 4 {
		return fmt.Sprint(args[4])
	}
	return cmd.Name()
}

// holdWrite makes Write hang until it is told to end, and checks that the driver
// is not closed before. begun is closed when a Write has begun.
func (f *fake) holdWrite(t *testing.T) (begun chan struct{}) {
	begun = make(chan struct{})
	severed := make(chan struct{})
	f.onWrite = func(ctx context.Context, _ channel.Write) (channel.Outcome, error) {
		close(begun)
		<-ctx.Done()
		close(severed)
		return channel.Outcome{Result: channel.Sent}, ctx.Err()
	}
	f.onClose = func(context.Context) error {
		select {
		case <-severed:
		default:
			t.Error("closed before the Write was told to end")
		}
		return nil
	}
	return begun
}
