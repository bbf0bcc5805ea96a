package main

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/voltageems/voltage/model"
	"github.com/voltageems/voltage/scripts"
)

// The site that everything is measured on.
const (
	pointsPerChannel = 500 // one batch
	modelsPerChannel = 5
	pointsPerModel   = pointsPerChannel / modelsPerChannel
	alarmEvery       = 10 // every tenth point has an alarm rule
	alarmThreshold   = 1e9
	partial          = 10 // a part of a batch has every tenth point

	historyBytes = 8 << 20
	leaseTime    = time.Hour // longer than any run
)

// definitions are the points, models and alarm rules of the site.
type definitions struct {
	channels []string
	points   [][]model.Point // by channel
	models   []model.Instance
	alarms   []model.AlarmRule
}

func newDefinitions(channels int) *definitions {
	d := &definitions{}
	for c := range channels {
		channel := strconv.Itoa(1001 + c)
		points := make([]model.Point, pointsPerChannel)
		models := make([]model.Instance, modelsPerChannel)
		for m := range models {
			models[m] = model.Instance{ID: "device" + channel + "-" + strconv.Itoa(m+1), Measurements: map[string]string{}}
		}
		for p := range points {
			id := strconv.Itoa(10001 + p)
			m, name := &models[p/pointsPerModel], fmt.Sprintf("value_%03d", p%pointsPerModel)
			points[p] = model.Point{ID: id, Name: name, Unit: "kW"}
			m.Measurements[name] = channel + ":" + id
			if p%alarmEvery == 0 {
				d.alarms = append(d.alarms, model.AlarmRule{ID: "high", Model: m.ID, Point: name, Operator: model.Above, Threshold: alarmThreshold})
			}
		}
		d.channels, d.points, d.models = append(d.channels, channel), append(d.points, points), append(d.models, models...)
	}
	return d
}

// size is the number of all points.
func (d *definitions) size() int { return len(d.channels) * pointsPerChannel }

// nameOf returns the model and the name that a point is bound to.
func (d *definitions) nameOf(channel, point int) (m, name string) {
	return d.models[channel*modelsPerChannel+point/pointsPerModel].ID, d.points[channel][point].Name
}

func (d *definitions) put(ctx context.Context, p *scripts.Plane) error {
	for c, id := range d.channels {
		if err := p.PutPoints(ctx, id, d.points[c]); err != nil {
			return err
		}
	}
	for _, m := range d.models {
		if err := p.PutModel(ctx, m); err != nil {
			return err
		}
	}
	for _, r := range d.alarms {
		if err := p.PutAlarmRule(ctx, r); err != nil {
			return err
		}
	}
	return nil
}

// newPlane returns the prepared data plane of a site; its definitions are put
// by the caller.
func (b *bench) newPlane(ctx context.Context, client redis.UniversalClient, site string, history int64) (*scripts.Plane, error) {
	p, err := scripts.New(client, scripts.Options{Site: site, Log: b.log, HistoryBytes: history})
	if err != nil {
		return nil, err
	}
	return p, p.Prepare(ctx)
}

// feed makes samples of some of a channel's points, with a different value at
// every turn, at next to no cost. A value tells of which turn it is.
type feed struct {
	turn    int64
	places  []int // of the points in the channel
	samples []model.Sample
}

// newFeed returns the feed of the points at some places; nil means all.
func newFeed(points []model.Point, places []int) *feed {
	if places == nil {
		places = make([]int, len(points))
		for i := range places {
			places[i] = i
		}
	}
	f := &feed{places: places, samples: make([]model.Sample, len(places))}
	for i, place := range places {
		f.samples[i].Point = points[place].ID
	}
	return f
}

func (f *feed) next() []model.Sample {
	f.turn++
	for i, place := range f.places {
		f.samples[i].Value = valueOf(f.turn, place)
	}
	return f.samples
}

// The values are exact in binary, and in the six decimals that are stored.
const (
	firstValue    = 200
	turnsPerValue = 8
)

// valueOf is the value of the point at a place in its channel at a turn.
func valueOf(turn int64, place int) float64 {
	return firstValue + float64(place) + float64(turn)/turnsPerValue
}

// turnOf is the turn of a value.
func turnOf(value float64, place int) int64 {
	return int64((value - firstValue - float64(place)) * turnsPerValue)
}

// partsOf are ways to take every tenth point: one of every ten in each, another
// one in each, so that all models, and points with and without alarm rules, have
// their share. With all is the one way to take them all.
func partsOf(points []model.Point, all bool) [][]int {
	if all {
		return [][]int{nil}
	}
	parts := make([][]int, partial)
	for at := range len(points) / partial {
		for k := range parts {
			parts[k] = append(parts[k], at*partial+(at+k)%partial)
		}
	}
	return parts
}
