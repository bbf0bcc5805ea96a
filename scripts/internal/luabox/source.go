package luabox

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

func find(name string) (command, bool) {
	c, ok := commands[strings.ToUpper(name)]
	return c, ok
}

// copyKeys copies the keys that were not touched before.
func (s *Store) copyKeys(ctx context.Context, keys []string) error {
	for _, key := range keys {
		if s.touched[key] {
			continue
		}
		if err := s.copyKey(ctx, key); err != nil {
			return fmt.Errorf("%w: copying key %.200q: %w", ErrStore, key, err)
		}
		s.touched[key] = true
	}
	return nil
}

// step is how much is read from the source and written to the scratch store at
// once, so that the source is never busy for long.
const step = 500

func (s *Store) copyKey(ctx context.Context, key string) error {
	src := s.options.Source
	var kind *redis.StatusCmd
	var left *redis.DurationCmd
	_, err := src.Pipelined(ctx, func(p redis.Pipeliner) error {
		kind, left = p.Type(ctx, key), p.PTTL(ctx, key)
		return nil
	})
	if err != nil {
		return err
	}
	switch kind.Val() {
	case "none":
		return nil
	case "string":
		err = s.copyString(ctx, key)
	case "hash":
		err = s.copyHash(ctx, key)
	case "set":
		err = s.copySet(ctx, key)
	case "list":
		err = s.copyList(ctx, key)
	case "zset":
		err = s.copySortedSet(ctx, key)
	case "stream":
		err = s.copyStream(ctx, key)
	default:
		err = fmt.Errorf("it is of type %s, which cannot be copied", kind.Val())
	}
	if err != nil {
		return err
	}
	if ms := left.Val().Milliseconds(); ms > 0 {
		_, err = s.do([]string{"PEXPIRE", key, strconv.FormatInt(ms, 10)})
	}
	return err
}

// bounded refuses what is too large to copy.
func (s *Store) bounded(n int64, err error) error {
	if err == nil && n > int64(s.options.Items) {
		return fmt.Errorf("it has %d items, more than %d", n, s.options.Items)
	}
	return err
}

// put writes items in steps of one command. A scan may give an item twice, which
// does no harm in a hash and in the sets.
func (s *Store) put(head, items []string) error {
	for len(items) > 0 {
		n := min(len(items), step)
		args := append(append(make([]string, 0, len(head)+n), head...), items[:n]...)
		if _, err := s.do(args); err != nil {
			return err
		}
		items = items[n:]
	}
	return nil
}

func (s *Store) copyString(ctx context.Context, key string) error {
	v, err := s.options.Source.Get(ctx, key).Result()
	if errors.Is(err, redis.Nil) {
		return nil // it expired just now
	}
	if err != nil {
		return err
	}
	_, err = s.do([]string{"SET", key, v})
	return err
}

type scan func(cursor uint64) *redis.ScanCmd

// scanned reads a whole collection step by step.
func (s *Store) scanned(ctx context.Context, head []string, f scan) error {
	for cursor := uint64(0); ; {
		items, next, err := f(cursor).Result()
		if err != nil {
			return err
		}
		if err := s.put(head, items); err != nil {
			return err
		}
		if cursor = next; cursor == 0 {
			return nil
		}
	}
}

func (s *Store) copyHash(ctx context.Context, key string) error {
	src := s.options.Source
	if err := s.bounded(src.HLen(ctx, key).Result()); err != nil {
		return err
	}
	return s.scanned(ctx, []string{"HSET", key}, func(cursor uint64) *redis.ScanCmd { return src.HScan(ctx, key, cursor, "", step) })
}

func (s *Store) copySet(ctx context.Context, key string) error {
	src := s.options.Source
	if err := s.bounded(src.SCard(ctx, key).Result()); err != nil {
		return err
	}
	return s.scanned(ctx, []string{"SADD", key}, func(cursor uint64) *redis.ScanCmd { return src.SScan(ctx, key, cursor, "", step) })
}

func (s *Store) copySortedSet(ctx context.Context, key string) error {
	src := s.options.Source
	if err := s.bounded(src.ZCard(ctx, key).Result()); err != nil {
		return err
	}
	return s.scanned(ctx, []string{"ZADD", key}, func(cursor uint64) *redis.ScanCmd {
		c := src.ZScan(ctx, key, cursor, "", step)
		items, next := c.Val() // member, score, …: ZADD wants the score first
		for i := 0; i+1 < len(items); i += 2 {
			items[i], items[i+1] = items[i+1], items[i]
		}
		c.SetVal(items, next)
		return c
	})
}

func (s *Store) copyList(ctx context.Context, key string) error {
	src := s.options.Source
	n, err := src.LLen(ctx, key).Result()
	if err := s.bounded(n, err); err != nil {
		return err
	}
	for i := int64(0); i < n; i += step {
		items, err := src.LRange(ctx, key, i, i+step-1).Result()
		if err != nil {
			return err
		}
		if err := s.put([]string{"RPUSH", key}, items); err != nil {
			return err
		}
	}
	return nil
}

// copyStream copies the last entries and what makes the next id larger than
// every id that the stream had.
func (s *Store) copyStream(ctx context.Context, key string) error {
	src := s.options.Source
	entries, err := src.Do(ctx, "XREVRANGE", key, "+", "-", "COUNT", s.options.Tail).Slice()
	if err != nil {
		return err
	}
	for i := len(entries) - 1; i >= 0; i-- {
		args := []string{"XADD", key}
		entry, _ := entries[i].([]any)
		if len(entry) != 2 {
			return errors.New("XREVRANGE answered no entry")
		}
		id, _ := entry[0].(string)
		fields, _ := entry[1].([]any)
		args = append(args, id)
		for _, f := range fields {
			text, _ := f.(string)
			args = append(args, text)
		}
		if _, err := s.do(args); err != nil {
			return err
		}
	}
	if len(entries) > 0 {
		return nil
	}
	info, err := src.XInfoStream(ctx, key).Result()
	if err != nil {
		return err
	}
	ms, _, _ := strings.Cut(info.LastGeneratedID, "-")
	last, err := strconv.ParseUint(ms, 10, 64)
	if err != nil {
		last = uint64(time.Now().UnixMilli())
	}
	id, err := s.do([]string{"XADD", key, strconv.FormatUint(last+1, 10) + "-*", "x", ""})
	if err != nil {
		return err
	}
	text, _ := id.(string)
	_, err = s.do([]string{"XDEL", key, text})
	return err
}
