package voltage

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/voltageems/voltage/model"
)

// What listens is woken by its own points and by nothing else, and costs the same
// however many others listen.
func TestCalculationsListen(t *testing.T) {
	t.Parallel()
	var c calculations
	driver := func() *calculator { return &calculator{wake: make(chan struct{}, 1)} }
	woken := func(k *calculator) bool {
		select {
		case <-k.wake:
			return true
		default:
			return false
		}
	}
	change := func(owner, name string) {
		c.update(model.Update{Model: owner, Points: []model.PointUpdate{{Name: name}}})
	}
	change("m", "a") // nobody listens
	one, two := driver(), driver()
	c.listen(one, nil, true)
	assert.True(t, c.any.Load(), "it is told of definitions before it knows its points")
	c.listen(one, []model.Ref{{Owner: "m", Name: "a"}, {Owner: "m", Name: "b"}}, true)
	c.listen(two, []model.Ref{{Owner: "m", Name: "a"}}, true)
	change("m", "a")
	assert.Equal(t, []bool{true, true}, []bool{woken(one), woken(two)})
	change("m", "b")
	change("m", "c")
	change("n", "a")
	assert.Equal(t, []bool{true, false}, []bool{woken(one), woken(two)})
	c.listen(one, []model.Ref{{Owner: "m", Name: "c"}}, true)
	change("m", "b")
	assert.False(t, woken(one))
	change("m", "c")
	assert.True(t, woken(one))

	var none calculations
	none.listen(one, []model.Ref{{Owner: "m", Name: "a"}}, true)
	none.listen(one, nil, false)
	none.listen(one, nil, false)
	assert.False(t, none.any.Load())
	assert.Empty(t, none.index)
	assert.Empty(t, none.running)
}

// However many others listen, it costs the same: 10,000 models start in seconds.
func TestManyCalculationsListen(t *testing.T) { // not parallel: allocations are counted
	var c calculations
	driver := func() *calculator { return &calculator{wake: make(chan struct{}, 1)} }
	for range 2000 {
		c.listen(driver(), []model.Ref{{Owner: "m", Name: "a"}}, true)
	}
	three := driver()
	assert.Less(t, testing.AllocsPerRun(10, func() { c.listen(three, []model.Ref{{Owner: "o", Name: "a"}}, true) }), 20.0)
}
