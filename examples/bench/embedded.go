package main

import (
	"context"
	"errors"
	"time"

	"github.com/voltageems/voltage/scripts"
)

// The ways on the embedded store.
const (
	wayEmbeddedPoint = "1 per point, embedded store"
	wayEmbeddedBatch = "2 batch, history, embedded store"
)

// embedded measures the first two ways on the embedded store. Its CPU time is
// this process's, so it shows as the client's.
func (b *bench) embedded(ctx context.Context) (_ rows, err error) {
	d := newDefinitions(b.channels)
	b.say("embedded store: defining a site of %d points …", d.size())
	store, err := scripts.OpenStore(ctx, scripts.StoreConfig{Embedded: true}, b.log)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, store.Close(context.WithoutCancel(ctx))) }()
	p, err := b.newPlane(ctx, store.Client, b.name, historyBytes)
	if err != nil {
		return nil, err
	}
	if err := d.put(ctx, p); err != nil {
		return nil, err
	}
	batch, err := newBatches(ctx, p, d)
	if err != nil {
		return nil, err
	}
	if err := batch.once(ctx); err != nil {
		return nil, err
	}
	point, err := b.perPoint(store.Client, d, b.name)
	if err != nil {
		return nil, err
	}
	point.name = wayEmbeddedPoint
	none := func(context.Context) (time.Duration, error) { return 0, nil }
	return b.rounds(ctx, []way{point, batch.way(wayEmbeddedBatch)}, b.slice(), none)
}
