package scripts_test

import (
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/voltageems/voltage/model"
	"github.com/voltageems/voltage/scripts/storetest"
)

func TestAuditJournal(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, client redis.UniversalClient) {
		s, ctx := newSite(t, client), t.Context()
		entries := []model.AuditEntry{
			{Time: time.UnixMilli(start), Who: "anna", Role: model.RoleOperator, From: "192.0.2.1", Action: "control", Target: "pcs1:power_setpoint",
				Detail: "value 50.000000", Result: "verified", Status: 200},
			{Time: time.UnixMilli(start + 1), From: "local", Action: "models", Result: "denied", Status: 401},
		}
		require.NoError(t, s.Audit(ctx, entries...))
		got, err := s.AuditJournal(ctx, "", 100)
		require.NoError(t, err)
		require.Len(t, got, 2)
		for i := range got {
			require.NotEmpty(t, got[i].Position)
			entries[i].Position = got[i].Position
		}
		require.Equal(t, entries, got)
		got, err = s.AuditJournal(ctx, got[0].Position, 1)
		require.NoError(t, err)
		require.Equal(t, entries[1:], got)
	})
}

// The journal is bounded.
func TestAuditJournalIsTrimmed(t *testing.T) {
	t.Parallel()
	client := storetest.Embedded(t)
	s, ctx := newSite(t, client), t.Context()
	many := make([]model.AuditEntry, 5000)
	for range 3 {
		require.NoError(t, s.Audit(ctx, many...))
	}
	n := 0
	for after := ""; ; {
		got, err := s.AuditJournal(ctx, after, 1000)
		require.NoError(t, err)
		if len(got) == 0 {
			break
		}
		n, after = n+len(got), got[len(got)-1].Position
	}
	require.Equal(t, 10_000, n)
}
