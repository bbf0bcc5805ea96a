package scripts

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
)

// Lease is the right to poll and write one channel. Epoch grows with every
// owner; whoever has an older one is refused everywhere.
type Lease struct {
	Channel string
	Engine  string
	Epoch   string
}

// Field is one field of a channel's status.
type Field struct{ Name, Value string }

// Acquire takes the ownership of a channel for ttl. The engine's id must be
// unique per process run. ErrHeld while another engine's lease runs. The same
// engine may acquire again and gets a new epoch.
func (p *Plane) Acquire(ctx context.Context, channel, engine string, ttl time.Duration) (Lease, error) {
	reply, err := p.call(ctx, "channel_owner", "acquire", channel, engine, ttl.Milliseconds())
	if err != nil {
		return Lease{}, err
	}
	if len(reply) < 2 {
		return Lease{}, fmt.Errorf("%w channel_owner: no epoch in the answer", ErrScript)
	}
	return Lease{Channel: channel, Engine: engine, Epoch: reply[1]}, nil
}

// Renew extends a lease and stores fields in the channel's status. ErrFenced
// when another engine took the channel, or the data was lost.
func (p *Plane) Renew(ctx context.Context, l Lease, ttl time.Duration, status ...Field) error {
	args := append([]any{l.Channel, l.Engine, l.Epoch, ttl.Milliseconds()}, fieldArgs(status)...)
	_, err := p.call(ctx, "channel_owner", "renew", args...)
	return err
}

// Release gives a lease back, with the last status of the channel. Nothing can
// be done with it any more. A lease that is not the last one is given back
// already, which is no error.
func (p *Plane) Release(ctx context.Context, l Lease, status ...Field) error {
	args := append([]any{l.Channel, l.Engine, l.Epoch}, fieldArgs(status)...)
	_, err := p.call(ctx, "channel_owner", "release", args...)
	if errors.Is(err, ErrFenced) {
		return nil
	}
	return err
}

func fieldArgs(fields []Field) []any {
	args := make([]any, 0, 2*len(fields))
	for _, f := range fields {
		args = append(args, f.Name, f.Value)
	}
	return args
}

// ChannelStatus returns the fields of comsrv:<channel>:status, and which engine
// owns the channel (empty: nobody). A channel that never ran has none.
func (p *Plane) ChannelStatus(ctx context.Context, channel string) (status map[string]string, owner string, err error) {
	pipe := p.client.Pipeline()
	fields := pipe.HGetAll(ctx, p.keys.channelPart(channel, "status"))
	held := pipe.Get(ctx, p.keys.channelPart(channel, "owner"))
	if _, err := pipe.Exec(ctx); err != nil && !isNil(err) {
		return nil, "", storeError("reading the status of channel "+channel, err)
	}
	owner, _, _ = strings.Cut(held.Val(), ":")
	return fields.Val(), owner, nil
}
