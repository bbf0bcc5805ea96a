package northbound

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestQuiet(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	log := quiet(slog.New(slog.NewTextHandler(&out, nil))).With("server", "scada")
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	say := func(text string) {
		require.NoError(t, log.Handler().Handle(context.Background(), slog.NewRecord(now, slog.LevelWarn, text, 0)))
	}
	for range 1000 {
		say("refused")
	}
	say("another")
	assert.Equal(t, quietLines, strings.Count(out.String(), "msg=refused"))
	assert.Contains(t, out.String(), "msg=another server=scada\n")
	assert.NotContains(t, out.String(), "left_out")
	now = now.Add(quietTime)
	say("refused")
	assert.Contains(t, out.String(), "left_out=990")
	now = now.Add(-time.Hour) // a clock that was set
	say("refused")
	assert.Equal(t, quietLines+2, strings.Count(out.String(), "msg=refused"))
	assert.Equal(t, 1, strings.Count(out.String(), "left_out"))
}
