package main

import (
	"context"
	"fmt"

	"github.com/voltageems/voltage/scripts"
)

// sites are the batches of the sites that the ways write to.
type sites struct {
	d                              *definitions
	history, plain, direct, shadow *batches
}

// openSites defines the sites.
func (b *bench) openSites(ctx context.Context) (*sites, error) {
	s := &sites{d: newDefinitions(b.channels)}
	b.say("throughput: defining four sites of %d points …", s.d.size())
	for _, x := range []struct {
		to      **batches
		name    string
		history int64
		mode    scripts.SyncMode
	}{
		{&s.history, "-history", historyBytes, scripts.SyncLua},
		{&s.plain, "-plain", 0, scripts.SyncLua},
		{&s.direct, "-direct", historyBytes, scripts.SyncDirect},
		{&s.shadow, "-shadow", historyBytes, scripts.SyncShadow},
	} {
		p, err := b.newPlane(ctx, b.store.Client, b.name+x.name, x.history)
		if err != nil {
			return nil, err
		}
		if err := s.d.put(ctx, p); err != nil {
			return nil, err
		}
		if err := p.SetInitialSyncModes(ctx, map[string]scripts.SyncMode{"*": x.mode}); err != nil {
			return nil, err
		}
		if *x.to, err = newBatches(ctx, p, s.d); err != nil {
			return nil, err
		}
		if err := (*x.to).once(ctx); err != nil { // every channel once, whatever the time
			return nil, err
		}
	}
	return s, nil
}

// throughput measures the ways on the Redis. brief leaves out all but those that
// the maximum load is taken from.
func (b *bench) throughput(ctx context.Context, brief bool) (rows, error) {
	s, err := b.openSites(ctx)
	if err != nil {
		return nil, err
	}
	b.sites = s
	pipe := func(l pipeline) way { return l.way(b, s.d, b.name+"-pipe") }
	ways := []way{
		s.history.way(wayBatch),
		pipe(pipeline{name: wayPipe, all: true, history: true}),
	}
	if !brief {
		point, err := b.perPoint(b.store.Client, s.d, b.name+"-plain")
		if err != nil {
			return nil, err
		}
		ways = append([]way{point}, append(ways,
			s.direct.way(wayDirect),
			s.shadow.way(wayShadow),
			s.plain.way(wayBatchPlain),
			pipe(pipeline{name: wayPipePlain, all: true}),
			s.history.of(s.d, false).way(wayBatchTenth),
			s.direct.of(s.d, false).way(wayDirectTenth),
			pipe(pipeline{name: wayPipeTenth, history: true}),
			pipe(pipeline{name: wayBare, all: true, bare: true}),
			s.history.parallel(wayBatchMany, b.parallel),
		)...)
	}
	list, err := b.rounds(ctx, ways, b.slice(), redisCPU(b.store.Client))
	if err != nil {
		return nil, err
	}
	if x := s.shadow.plane.ShadowStats(); x.Differences > 0 {
		return nil, fmt.Errorf("shadow mode found %d differences between Lua and Go", x.Differences)
	}
	return list, nil
}
