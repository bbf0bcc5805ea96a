package scripts

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/voltageems/voltage/model"
)

// deadNotifications is how many given up notifications are kept; the oldest go.
const deadNotifications = 1000

// notificationChunk bounds what goes to the store in one transaction.
const notificationChunk = 200

func (k keys) notificationQueue() string   { return k.key("notification", "queue") }
func (k keys) notificationDead() string    { return k.key("notification", "dead") }
func (k keys) notificationDropped() string { return k.key("notification", "dropped") }

// notificationSenders has the senders that may have left something.
func (k keys) notificationSenders() string { return k.key("notification", "senders") }

// notificationSender is there while the sender lives.
func (k keys) notificationSender(id string) string { return k.key("notification", "sender", id) }

// notificationProcessing has what a sender took and did not distribute yet.
func (k keys) notificationProcessing(id string) string {
	return k.key("notification", "processing", id)
}

// notificationWork has what a sender still has to deliver, by target.
func (k keys) notificationWork(id string) string { return k.key("notification", "work", id) }

// NotificationSender is one sender's part of the store: what it took from
// notification:queue, and what of that it still has to deliver. Whatever it
// leaves behind, others take over once its sign of life has run out, so that a
// message may be delivered twice and is never lost.
type NotificationSender struct {
	p     *Plane
	id    string
	lease time.Duration
}

// NotificationSender returns the part of the sender of that id, which no other
// running sender may have. lease is how long after its last Alive the sender
// counts as gone.
func (p *Plane) NotificationSender(id string, lease time.Duration) *NotificationSender {
	return &NotificationSender{p: p, id: id, lease: lease}
}

// Alive is the sender's sign of life.
func (s *NotificationSender) Alive(ctx context.Context) error {
	_, err := s.p.client.TxPipelined(ctx, func(tx redis.Pipeliner) error {
		tx.Set(ctx, s.p.keys.notificationSender(s.id), s.id, s.lease)
		tx.SAdd(ctx, s.p.keys.notificationSenders(), s.id)
		return nil
	})
	return storeError("telling that the sender of notifications lives", err)
}

// Leave ends the sender: others may take over at once what it has left.
func (s *NotificationSender) Leave(ctx context.Context) error {
	return storeError("ending the sender of notifications", s.p.client.Del(ctx, s.p.keys.notificationSender(s.id)).Err())
}

// Take returns up to n notifications that this sender has taken and not settled,
// the oldest first; it takes more from the queue where there are fewer.
func (s *NotificationSender) Take(ctx context.Context, n int) ([]string, error) {
	own := s.p.keys.notificationProcessing(s.id)
	list, err := s.p.client.LRange(ctx, own, int64(-n), -1).Result()
	if err != nil {
		return nil, storeError("reading the notifications taken", err)
	}
	for i, j := 0, len(list)-1; i < j; i, j = i+1, j-1 { // the newest is the first of a list
		list[i], list[j] = list[j], list[i]
	}
	if len(list) > 0 {
		return list, nil
	}
	waiting, err := s.p.client.LLen(ctx, s.p.keys.notificationQueue()).Result()
	if err != nil || waiting == 0 {
		return nil, storeError("reading the length of notification:queue", err)
	}
	moved := make([]*redis.StringCmd, min(int64(n), waiting))
	_, err = s.p.client.TxPipelined(ctx, func(tx redis.Pipeliner) error {
		tx.SAdd(ctx, s.p.keys.notificationSenders(), s.id)
		for i := range moved {
			moved[i] = tx.LMove(ctx, s.p.keys.notificationQueue(), own, "RIGHT", "LEFT")
		}
		return nil
	})
	if err != nil && !isNil(err) { // nil: another sender was faster
		return nil, storeError("taking notifications", err)
	}
	for _, m := range moved {
		if text, err := m.Result(); err == nil {
			list = append(list, text)
		}
	}
	return list, nil
}

// NotificationChange is what becomes of notifications and work, all in one step.
type NotificationChange struct {
	// Taken are notifications that need no more of this sender's care.
	Taken []string
	// Put is work to keep by its id, Done the ids of work that is over.
	Put  map[string]string
	Done []string
	// Dead are given up.
	Dead []model.DeadNotification
	// Revive are letters of notification:dead, as they stand there, that leave it,
	// and Queue are notifications that wait again.
	Revive []string
	Queue  []string
	// Dropped are how many were lost to a cap.
	Dropped int64
}

// Settle applies a change, all or nothing. After an error it may have been
// applied: read again what there is.
func (s *NotificationSender) Settle(ctx context.Context, c NotificationChange) error {
	dead := make([]any, len(c.Dead))
	for i, d := range c.Dead {
		text, err := json.Marshal(d)
		if err != nil {
			return fmt.Errorf("%w: notification %.80q: %w", model.ErrInvalid, d.ID, err)
		}
		dead[i] = text
	}
	k := s.p.keys
	var length *redis.IntCmd
	_, err := s.p.client.TxPipelined(ctx, func(tx redis.Pipeliner) error {
		for _, text := range c.Taken {
			tx.LRem(ctx, k.notificationProcessing(s.id), -1, text)
		}
		for id, text := range c.Put {
			tx.HSet(ctx, k.notificationWork(s.id), id, text)
		}
		if len(c.Put) > 0 {
			tx.SAdd(ctx, k.notificationSenders(), s.id)
		}
		if len(c.Done) > 0 {
			tx.HDel(ctx, k.notificationWork(s.id), c.Done...)
		}
		for _, text := range c.Revive {
			tx.LRem(ctx, k.notificationDead(), 1, text)
		}
		for _, text := range c.Queue {
			tx.LPush(ctx, k.notificationQueue(), text)
		}
		if len(dead) > 0 {
			length = tx.LPush(ctx, k.notificationDead(), dead...)
			tx.LTrim(ctx, k.notificationDead(), 0, deadNotifications-1)
		}
		if c.Dropped > 0 {
			tx.IncrBy(ctx, k.notificationDropped(), c.Dropped)
		}
		return nil
	})
	if err != nil {
		return storeError("settling notifications", err)
	}
	if length != nil && length.Val() > deadNotifications {
		// counted apart, as the length is known only now
		if err := s.p.client.IncrBy(ctx, k.notificationDropped(), length.Val()-deadNotifications).Err(); err != nil {
			s.p.log.Warn("dead notifications that made room for newer ones are not counted", "count", length.Val()-deadNotifications, "error", err)
		}
	}
	return nil
}

// Work calls fn with everything that this sender still has to deliver, in no order.
func (s *NotificationSender) Work(ctx context.Context, fn func(id, text string)) error {
	return s.scan(ctx, s.id, func(fields map[string]string) error {
		for id, text := range fields {
			fn(id, text)
		}
		return nil
	})
}

// WorkOf returns work by id, "" where it is not this sender's any more.
func (s *NotificationSender) WorkOf(ctx context.Context, ids ...string) ([]string, error) {
	list, err := s.p.client.HMGet(ctx, s.p.keys.notificationWork(s.id), ids...).Result()
	if err != nil {
		return nil, storeError("reading what is to be delivered", err)
	}
	texts := make([]string, len(ids))
	for i, v := range list {
		texts[i], _ = v.(string)
	}
	return texts, nil
}

// scan calls fn with the work of a sender, some at a time, some of it twice perhaps.
func (s *NotificationSender) scan(ctx context.Context, sender string, fn func(map[string]string) error) error {
	for cursor := uint64(0); ; {
		list, next, err := s.p.client.HScan(ctx, s.p.keys.notificationWork(sender), cursor, "", notificationChunk).Result()
		if err != nil {
			return storeError("reading what is to be delivered", err)
		}
		fields := make(map[string]string, len(list)/2)
		for i := 0; i+1 < len(list); i += 2 {
			fields[list[i]] = list[i+1]
		}
		if len(fields) > 0 {
			if err := fn(fields); err != nil {
				return err
			}
		}
		if cursor = next; cursor == 0 {
			return nil
		}
	}
}

// Adopt takes over what senders have left that are gone, and reports whether
// there was any.
func (s *NotificationSender) Adopt(ctx context.Context) (adopted bool, err error) {
	senders, err := s.p.client.SMembers(ctx, s.p.keys.notificationSenders()).Result()
	if err != nil {
		return false, storeError("reading the senders of notifications", err)
	}
	for _, id := range senders {
		if id == s.id {
			continue
		}
		// In the dead sender's place this one is seen to live, so that only one adopts.
		free, err := s.p.client.SetNX(ctx, s.p.keys.notificationSender(id), s.id, s.lease).Result()
		if err != nil {
			return adopted, storeError("taking over from the sender of notifications "+id, err)
		}
		if !free {
			continue
		}
		if err := s.adopt(ctx, id); err != nil {
			return true, err
		}
		adopted = true
	}
	return adopted, nil
}

func (s *NotificationSender) adopt(ctx context.Context, id string) error {
	k, c := s.p.keys, s.p.client
	processing, work := k.notificationProcessing(id), k.notificationWork(id)
	for {
		for {
			err := c.LMove(ctx, processing, k.notificationProcessing(s.id), "RIGHT", "LEFT").Err()
			if isNil(err) {
				break
			}
			if err != nil {
				return storeError("taking over from the sender of notifications "+id, err)
			}
		}
		err := s.scan(ctx, id, func(fields map[string]string) error {
			_, err := c.TxPipelined(ctx, func(tx redis.Pipeliner) error {
				tx.Expire(ctx, k.notificationSender(id), s.lease)
				tx.SAdd(ctx, k.notificationSenders(), s.id)
				for field, text := range fields {
					tx.HSet(ctx, k.notificationWork(s.id), field, text)
					tx.HDel(ctx, work, field)
				}
				return nil
			})
			return storeError("taking over from the sender of notifications "+id, err)
		})
		if err != nil {
			return err
		}
		// It is forgotten only while it has nothing: one that was only slow may
		// have gone on.
		left := true
		err = c.Watch(ctx, func(tx *redis.Tx) error {
			n, err := tx.Exists(ctx, processing, work).Result()
			if left = n > 0; err != nil || left {
				return err
			}
			_, err = tx.TxPipelined(ctx, func(tx redis.Pipeliner) error {
				tx.SRem(ctx, k.notificationSenders(), id)
				tx.Del(ctx, k.notificationSender(id))
				return nil
			})
			return err
		}, processing, work)
		if errors.Is(err, redis.TxFailedErr) {
			continue
		}
		if err != nil || !left {
			return storeError("taking over from the sender of notifications "+id, err)
		}
	}
}

// NotificationCounts returns how many notifications wait in the queue, how many
// dead ones are kept, and how many were ever lost to a cap.
func (p *Plane) NotificationCounts(ctx context.Context) (queue, dead, dropped int64, err error) {
	var q, d *redis.IntCmd
	var lost *redis.StringCmd
	_, err = p.client.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		q, d = pipe.LLen(ctx, p.keys.notificationQueue()), pipe.LLen(ctx, p.keys.notificationDead())
		lost = pipe.Get(ctx, p.keys.notificationDropped())
		return nil
	})
	if err != nil && !isNil(err) {
		return 0, 0, 0, storeError("counting notifications", err)
	}
	dropped, _ = strconv.ParseInt(lost.Val(), 10, 64)
	return q.Val(), d.Val(), dropped, nil
}

// DeadNotifications calls fn with the notifications that were given up, the
// newest first, each also as it is stored. What cannot be read is left out.
func (p *Plane) DeadNotifications(ctx context.Context, fn func(d model.DeadNotification, stored string)) error {
	list, err := p.client.LRange(ctx, p.keys.notificationDead(), 0, deadNotifications-1).Result()
	if err != nil {
		return storeError("reading notification:dead", err)
	}
	for _, text := range list {
		var d model.DeadNotification
		if json.Unmarshal([]byte(text), &d) == nil {
			fn(d, text)
		}
	}
	return nil
}
