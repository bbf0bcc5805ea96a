package scripts

import (
	"context"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/voltageems/voltage/model"
)

// PointValues returns the values of points of models as they were at one moment,
// in the order of refs, without their times, and the time of the store just
// before. A point that does not exist, was never good or is text is bad, and one
// whose channel has run and is run by nobody now is offline.
func (p *Plane) PointValues(ctx context.Context, refs []model.Ref) ([]model.Value, time.Time, error) {
	node, err := p.nodeOf(ctx, p.anchor)
	if err != nil {
		return nil, time.Time{}, err
	}
	now, err := p.storeTime(ctx, node)
	if err != nil || len(refs) == 0 {
		return nil, now, err
	}
	pl, err := p.currentPlan(ctx)
	if err != nil {
		return nil, now, err
	}
	// The fields of each hash are asked for together, and each channel once.
	type field struct{ hash, place int }
	var (
		hashes   []string
		fields   [][]string
		at       = map[string]int{}
		value    = make([]field, len(refs))
		quality  = make([]field, len(refs))
		channels []string
		channel  = make([]int, len(refs)) // -1 where it is not known
	)
	ask := func(hash, name string) field {
		i, ok := at[hash]
		if !ok {
			i = len(hashes)
			at[hash] = i
			hashes, fields = append(hashes, hash), append(fields, nil)
		}
		fields[i] = append(fields[i], name)
		return field{i, len(fields[i]) - 1}
	}
	seen := map[string]int{}
	for i, r := range refs {
		m := pl.models[r.Owner]
		k := m.kinds[r.Name]
		value[i], quality[i] = ask(p.keys.modelValues(r.Owner, k), r.Name), ask(p.keys.modelPart(r.Owner, "quality"), r.Name)
		channel[i] = -1
		if source, err := model.ParseRef(m.instance.Bindings(k)[r.Name]); err == nil {
			c, ok := seen[source.Owner]
			if !ok {
				c = len(channels)
				seen[source.Owner] = c
				channels = append(channels, source.Owner)
			}
			channel[i] = c
		}
	}
	answers := make([]*redis.SliceCmd, len(hashes))
	var owners *redis.SliceCmd
	_, err = p.client.TxPipelined(ctx, func(tx redis.Pipeliner) error {
		for i, hash := range hashes {
			answers[i] = tx.HMGet(ctx, hash, fields[i]...)
		}
		if len(channels) > 0 {
			keys := make([]string, len(channels))
			for i, c := range channels {
				keys[i] = p.keys.channelPart(c, "owner")
			}
			owners = tx.MGet(ctx, keys...)
		}
		return nil
	})
	if err != nil {
		return nil, now, storeError("reading the values of points", err)
	}
	dead, err := p.deadChannels(ctx, channels, owners)
	if err != nil {
		return nil, now, err
	}
	values := make([]model.Value, len(refs))
	for i, r := range refs {
		m := pl.models[r.Owner]
		text, ok := answers[value[i].hash].Val()[value[i].place].(string)
		values[i] = model.Value{Kind: m.kinds[r.Name], Unit: m.units[r.Name], Quality: model.Bad}
		if ok {
			values[i] = numeric(text, m.kinds[r.Name], m.units[r.Name], time.Time{})
		}
		if text, ok := answers[quality[i].hash].Val()[quality[i].place].(string); ok && values[i].Quality.Usable() {
			values[i].Quality, _ = model.ParseQuality(text)
		} else if ok {
			if q, _ := model.ParseQuality(text); !q.Usable() {
				values[i].Quality = q
			}
		}
		if c := channel[i]; c >= 0 && values[i].Quality.Usable() && dead[channels[c]] {
			values[i].Quality = model.Offline
		}
	}
	return values, now, nil
}

// deadChannels returns the channels that have run and that nobody runs now. One
// that has no status never ran: another program writes its values.
func (p *Plane) deadChannels(ctx context.Context, channels []string, owners *redis.SliceCmd) (map[string]bool, error) {
	var idle []string
	for i, c := range channels {
		if owners.Val()[i] == nil {
			idle = append(idle, c)
		}
	}
	if len(idle) == 0 { // as nearly always
		return nil, nil
	}
	known := make([]*redis.IntCmd, len(idle))
	_, err := p.client.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		for i, c := range idle {
			known[i] = pipe.Exists(ctx, p.keys.channelPart(c, "status"))
		}
		return nil
	})
	if err != nil {
		return nil, storeError("looking for channels that are not run", err)
	}
	dead := map[string]bool{}
	for i, c := range idle {
		dead[c] = known[i].Val() == 1
	}
	return dead, nil
}

// Definitions are the models and points of the site, also those of other engines,
// as they were at one moment. The zero value has none.
type Definitions struct{ pl *plan }

// Definitions returns what is defined on the site now.
func (p *Plane) Definitions(ctx context.Context) (Definitions, error) {
	pl, err := p.freshPlan(ctx)
	return Definitions{pl}, err
}

// Same reports whether nothing has changed between d and other.
func (d Definitions) Same(other Definitions) bool { return d.pl == other.pl }

// Models returns the models by id. Neither the map, which is the same at every
// call, nor what they hold must be changed.
func (d Definitions) Models() map[string]model.Instance {
	if d.pl == nil {
		return nil
	}
	d.pl.once.Do(func() {
		d.pl.instances = make(map[string]model.Instance, len(d.pl.models))
		for id, m := range d.pl.models {
			d.pl.instances[id] = m.instance
		}
	})
	return d.pl.instances
}

// Point returns the definition of a point of a channel.
func (d Definitions) Point(ref model.Ref) (model.Point, bool) {
	if d.pl == nil {
		return model.Point{}, false
	}
	pt, ok := d.pl.points[ref.Owner][ref.Name]
	return pt, ok
}
