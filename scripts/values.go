package scripts

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/voltageems/voltage/model"
)

// valuesAtOnce is how many models are read in one transaction, during which the
// store does nothing else.
const valuesAtOnce = 20

// Values returns the current values of a model's points, by name. A point that
// never had a good value has the zero Time.
func (p *Plane) Values(ctx context.Context, id string) (map[string]model.Value, error) {
	all, err := p.ValuesOf(ctx, id)
	if err != nil {
		return nil, err
	}
	values, ok := all[id]
	if !ok {
		return nil, fmt.Errorf("model %.80q: %w", id, ErrNotFound)
	}
	return values, nil
}

// ValuesOf returns the current values of several models, by model and name, each
// model's as of one moment. Models that do not exist are not in it.
func (p *Plane) ValuesOf(ctx context.Context, ids ...string) (map[string]map[string]model.Value, error) {
	pl, err := p.freshPlan(ctx)
	if err != nil {
		return nil, err
	}
	all := make(map[string]map[string]model.Value, len(ids))
	for some := range slices.Chunk(ids, valuesAtOnce) {
		hashes := map[string][]*redis.MapStringStringCmd{}
		_, err := p.client.TxPipelined(ctx, func(tx redis.Pipeliner) error {
			for _, id := range some {
				if _, ok := pl.models[id]; ok {
					hashes[id] = p.queueValues(ctx, tx, id)
				}
			}
			return nil
		})
		if err != nil {
			return nil, storeError(fmt.Sprintf("reading the values of %d models, %s first", len(some), some[0]), err)
		}
		for id, h := range hashes {
			all[id] = pl.modelValues(id, h)
		}
	}
	return all, nil
}

// queueValues queues the reading of a model's hashes.
func (p *Plane) queueValues(ctx context.Context, tx redis.Pipeliner, id string) []*redis.MapStringStringCmd {
	var hashes []*redis.MapStringStringCmd
	for _, k := range model.Kinds() {
		hashes = append(hashes, tx.HGetAll(ctx, p.keys.modelValues(id, k)))
	}
	for _, part := range []string{"text", "ts", "quality"} {
		hashes = append(hashes, tx.HGetAll(ctx, p.keys.modelPart(id, part)))
	}
	return hashes
}

// modelValues makes values of what queueValues has read.
func (pl *plan) modelValues(id string, hashes []*redis.MapStringStringCmd) map[string]model.Value {
	m, kinds := pl.models[id], model.Kinds()
	text, ts, quality := hashes[len(kinds)].Val(), hashes[len(kinds)+1].Val(), hashes[len(kinds)+2].Val()
	values := make(map[string]model.Value, len(m.kinds))
	for i, k := range kinds {
		for name, v := range hashes[i].Val() {
			values[name] = numeric(v, k, m.units[name], valueTime(ts, pl.names[id], name))
		}
	}
	for name, v := range text {
		values[name] = model.Value{Text: v, Kind: m.kinds[name], Time: valueTime(ts, pl.names[id], name)}
	}
	setQualities(values, quality, func(name string) (model.Kind, string) { return m.kinds[name], m.units[name] })
	return values
}

// ChannelValues returns the current values of a channel's points, by point id.
// Time is set only for points whose device gives one.
func (p *Plane) ChannelValues(ctx context.Context, channel string) (map[string]model.Value, error) {
	pl, err := p.freshPlan(ctx)
	if err != nil {
		return nil, err
	}
	points := pl.points[channel]
	kinds := model.Kinds()
	hashes := make([]*redis.MapStringStringCmd, 0, len(kinds)+3)
	_, err = p.client.TxPipelined(ctx, func(tx redis.Pipeliner) error {
		for _, k := range kinds {
			hashes = append(hashes, tx.HGetAll(ctx, p.keys.channelValues(channel, k)))
		}
		for _, part := range []string{"text", "ts", "quality"} {
			hashes = append(hashes, tx.HGetAll(ctx, p.keys.channelPart(channel, part)))
		}
		return nil
	})
	if err != nil {
		return nil, storeError("reading the values of channel "+channel, err)
	}
	text, ts, quality := hashes[len(kinds)].Val(), hashes[len(kinds)+1].Val(), hashes[len(kinds)+2].Val()
	values := map[string]model.Value{}
	for i, k := range kinds {
		for id, v := range hashes[i].Val() {
			values[id] = numeric(v, k, points[id].Unit, millis(ts[id]))
		}
	}
	for id, v := range text {
		values[id] = model.Value{Text: v, Kind: points[id].Kind, Time: millis(ts[id])}
	}
	setQualities(values, quality, func(id string) (model.Kind, string) { return points[id].Kind, points[id].Unit })
	return values, nil
}

// valueTime is the time of a name in a model: its own, or that of the last batch
// that had most names of the model, which stands once under "*" for those that
// something leads to. An empty one is of a name whose time nobody knew then.
func valueTime(ts map[string]string, names []string, name string) time.Time {
	at, ok := ts[name]
	if !ok {
		if _, ok := slices.BinarySearch(names, name); ok {
			at = ts["*"]
		}
	}
	return millis(at)
}

func numeric(text string, k model.Kind, unit string, at time.Time) model.Value {
	v := model.Value{Kind: k, Unit: unit, Time: at}
	n, err := strconv.ParseFloat(text, 64)
	if err != nil || !model.Finite(n) {
		v.Quality = model.Invalid // another program wrote what is no number
		return v
	}
	v.Value = n
	return v
}

func setQualities(values map[string]model.Value, quality map[string]string, known func(string) (model.Kind, string)) {
	for name, text := range quality {
		v, ok := values[name]
		if !ok {
			v.Kind, v.Unit = known(name)
		}
		v.Quality, _ = model.ParseQuality(text)
		values[name] = v
	}
}

// Channels returns the ids of the channels whose points are defined.
func (p *Plane) Channels(ctx context.Context) ([]string, error) {
	pl, err := p.freshPlan(ctx)
	if err != nil {
		return nil, err
	}
	return slices.Sorted(maps.Keys(pl.points)), nil
}

// ModelPoints returns the definitions of the points that a model binds, by the
// model's names, as far as they are known. It costs no call; nil for a model
// that is not known.
func (p *Plane) ModelPoints(id string) map[string]model.Point {
	pl := p.plan.Load()
	if pl == nil {
		return nil
	}
	m, ok := pl.models[id]
	if !ok {
		return nil
	}
	points := make(map[string]model.Point, len(m.kinds))
	for _, k := range model.Kinds() {
		for name, source := range m.instance.Bindings(k) {
			ref, err := model.ParseRef(source)
			if err != nil {
				continue
			}
			if pt, ok := pl.points[ref.Owner][ref.Name]; ok {
				points[name] = pt
			}
		}
	}
	return points
}
