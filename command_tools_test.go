package voltage_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/redis/go-redis/v9"
)

// loser loses replies of the store.
type loser struct {
	mu   sync.Mutex
	op   string
	left int64
}

func (l *loser) lose(op string, n int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.op, l.left = op, n
}

func (l *loser) DialHook(next redis.DialHook) redis.DialHook { return next }

func (l *loser) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

func (l *loser) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		err := next(ctx, cmd)
		op := cmd.Name()
		if args := cmd.Args(); op == "evalsha" && len(args) > 4 {
			op = fmt.Sprint(args[4])
		}
		l.mu.Lock()
		defer l.mu.Unlock()
		if op != l.op || l.left == 0 || err != nil && !errors.Is(err, redis.Nil) {
			return err
		}
		l.left--
		err = fmt.Errorf("the reply got lost: %w", io.ErrUnexpectedEOF)
		cmd.SetErr(err)
		return err
	}
}
