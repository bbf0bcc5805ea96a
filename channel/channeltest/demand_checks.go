package channeltest

import (
	"errors"

	"github.com/voltageems/voltage/channel"
	"github.com/voltageems/voltage/model"
)

// demandReads turns no clock, so that nothing but a demand ends the wait of Read.
func demandReads(c *check) {
	c.tb.Helper()
	clock := NewClock(c.tb)
	d := c.open(c.setup(clock, never))
	demander, ok := d.Driver.(channel.Demander)
	if !ok {
		d.close()
		c.tb.Skipf("needs a driver that is a channel.Demander")
	}
	d.connect()
	p := d.pump()
	c.eventually("the first round", p, func() bool {
		rounds, _ := p.seen(c.h.Points)
		return rounds > 0 && (c.h.Spontaneous || clock.dueWithin(c.h.Scan))
	})
	demand := func(ids ...string) error {
		return call(c, "Demand", func() error { return demander.Demand(ids...) })
	}
	var ids []string
	for _, e := range c.h.Points {
		ids = append(ids, e.Point.ID)
	}
	for range 3 {
		before, _ := p.seen(c.h.Points)
		if err := demand(ids...); err != nil {
			c.tb.Fatalf("Demand: %v", err)
		}
		c.eventually("what was demanded", p, func() bool {
			rounds, _ := p.seen(c.h.Points)
			return rounds > before
		})
	}
	const foreign = "channeltest-foreign"
	if err := demand(ids[0], foreign); !errors.Is(err, model.ErrInvalid) {
		c.tb.Fatalf("Demand of point %s, which the channel does not have: %v, want model.ErrInvalid", foreign, err)
	}
	p.finish(c)
	d.close()
}
