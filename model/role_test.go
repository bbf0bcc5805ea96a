package model_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/voltageems/voltage/model"
)

func TestRoles(t *testing.T) {
	t.Parallel()
	roles := model.Roles()
	for i, r := range roles {
		assert.True(t, r.Valid())
		for j, least := range roles {
			assert.Equal(t, i >= j, r.Covers(least), "%s covers %s", r, least)
		}
		for _, none := range []model.Role{"", "root", "Admin"} {
			assert.False(t, r.Covers(none))
			assert.False(t, none.Covers(r))
			assert.False(t, none.Covers(none))
		}
		got, err := model.ParseRole(string(r))
		require.NoError(t, err)
		assert.Equal(t, r, got)
	}
	_, err := model.ParseRole("root")
	require.ErrorIs(t, err, model.ErrInvalid)
}
