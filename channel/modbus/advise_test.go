package modbus

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/voltageems/voltage/channel"
	"github.com/voltageems/voltage/model"
)

func TestAdvise(t *testing.T) {
	t.Parallel()
	points := []model.Point{
		point("a", "holding:1:float32 range=0..5"), point("b", "holding:2:int16"), point("c", "holding:9:bit1"), point("d", "holding:9:bits2-3"),
		point("e", "holding:9"), control("f", "holding:20"), point("g", "holding:20"), point("h", "holding:20"), point("i", "input:20:int16"),
		{ID: "j", Name: "Op-Mode", Kind: model.Signal, Address: "input:30"}, {ID: "k", Name: "model", Kind: model.Signal, Address: "input:31"},
	}
	d, err := TCP("127.0.0.1")(setup(points...))
	require.NoError(t, err)
	a, ok := d.(channel.Adviser)
	require.True(t, ok)
	assert.ElementsMatch(t, []channel.Advice{
		{Point: "b", Field: "address", Text: "overlaps point a, holding:1:float32 range=0..5, in part"},
		{Point: "j", Field: "labels", Text: "missing: say what its numbers mean"},
		{Point: "h", Field: "address", Text: "is that of point g too"},
	}, a.Advise(), "parts of a register, a command and its value, and other tables are no fault")
	lo, hi, ok := a.Plausible("a")
	assert.True(t, ok)
	assert.Equal(t, [2]float64{0, 5}, [2]float64{lo, hi})
	for _, id := range []string{"b", "nothing"} {
		_, _, ok = a.Plausible(id)
		assert.False(t, ok)
	}
}

// A kind opens without a device, for profiles; the settings are checked.
func TestKindsOfProfiles(t *testing.T) {
	t.Parallel()
	for _, k := range Kinds() {
		open := func(unit int) error {
			_, err := k.Profile(func(to any) error {
				switch s := to.(type) {
				case *network:
					s.Unit = &unit
				case *secured:
					s.Unit = &unit
				case *serialLine:
					s.Unit = &unit
				}
				return nil
			})
			return err
		}
		require.NoError(t, open(1), k.Name)
		require.ErrorIs(t, open(300), model.ErrInvalid, k.Name)
	}
}
