package scripts

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
)

// storeWriteScript does to the store what a batch of samples does: the raw hash,
// the model's hash and, with history, one stream entry with the packed values.
const storeWriteScript = `
local raw, mod, packed = {}, {}, {}
for i = 3, #ARGV, 2 do
  raw[#raw + 1] = ARGV[i]; raw[#raw + 1] = ARGV[i + 1]
  mod[#mod + 1] = 'name_' .. ARGV[i]; mod[#mod + 1] = ARGV[i + 1]
  packed[#packed + 1] = ARGV[i] .. '=' .. ARGV[i + 1]
end
redis.call('HSET', 'comsrv:' .. ARGV[1] .. ':m', unpack(raw))
redis.call('HSET', 'modsrv:' .. ARGV[1] .. ':measurement', unpack(mod))
if ARGV[2] == '1' then
  redis.call('XADD', 'hissrv:queue', 'MAXLEN', '~', '600', '*', 'b', table.concat(packed, ' '))
end`

// TestManagedStoreWritesPerDay measures what docs/store.md says about the wear of
// flash memory. VOLTAGE_LONG=1 runs it, about a minute per row (all rows at once,
// each with its own server).
func TestManagedStoreWritesPerDay(t *testing.T) {
	if os.Getenv("VOLTAGE_LONG") != "1" {
		t.Skip("VOLTAGE_LONG=1 measures for a minute")
	}
	storeNeedBinary(t)
	const (
		seconds  = 60
		channels = 10
		perCall  = 100 // samples a channel and second: 1,000 changes/s in all
	)
	for _, history := range []string{"0", "1"} {
		for _, p := range []Persistence{PersistAOF, PersistSnapshot, PersistNone} {
			t.Run(string(p)+"/history="+history, func(t *testing.T) {
				t.Parallel()
				ctx := context.Background()
				folder := t.TempDir()
				s := storeOpen(t, StoreConfig{Managed: &Managed{Folder: folder, Persistence: p}})
				script := redis.NewScript(storeWriteScript)
				require.NoError(t, script.Load(ctx, s.Client).Err())
				batch := func(n, ch int) {
					args := []any{1000 + ch, history}
					for i := range perCall {
						args = append(args, 10000+i, fmt.Sprintf("%.6f", float64((n*7919+i*104729)%100000)/100))
					}
					if err := script.EvalSha(ctx, s.Client, nil, args...).Err(); err != redis.Nil { // it returns nothing
						require.NoError(t, err)
					}
				}
				pid := storePID(t, s)
				tick := time.NewTicker(time.Second / channels)
				defer tick.Stop()
				for ch := range channels {
					batch(0, ch)
				}
				disk, calls := storeWritten(t, pid)
				for n := range seconds {
					for ch := range channels { // as in an engine, each at its own time
						<-tick.C
						batch(n+1, ch)
					}
				}
				disk2, calls2 := storeWritten(t, pid)
				perDay := float64(disk2-disk) / seconds * 86400
				appended := float64(calls2-calls) / seconds * 86400

				// What happens more rarely than once in the measurement, done once by hand.
				size, times := int64(0), 0.0
				switch p {
				case PersistAOF:
					require.NoError(t, s.Client.BgRewriteAOF(ctx).Err())
					size = storeSettled(t, s, pid, disk2)
					times = appended / (64 << 20)
				case PersistSnapshot:
					require.NoError(t, s.Client.BgSave(ctx).Err())
					size = storeSettled(t, s, pid, disk2)
					times = 86400 / 300
				}
				t.Logf("%-8s history=%s: steady %.2f GB/day to the disk (%.2f GB/day by write calls, all kinds), plus %.0f rewrites or snapshots of %.2f MB = %.2f GB/day; sum %.2f GB/day",
					p, history, perDay/1e9, appended/1e9, times, float64(size)/1e6, times*float64(size)/1e9, (perDay+times*float64(size))/1e9)
			})
		}
	}
}

// storeSettled waits until a background save has ended and returns the bytes that
// went to the disk since before.
func storeSettled(t *testing.T, s *Store, pid int, before int64) int64 {
	t.Helper()
	require.Eventually(t, func() bool {
		info := storeParseInfo(s.Client.Info(context.Background(), "persistence").Val())
		return info["rdb_bgsave_in_progress"] == "0" && info["aof_rewrite_in_progress"] == "0"
	}, time.Minute, 10*time.Millisecond)
	after, _ := storeWritten(t, pid)
	return after - before
}

// storeWritten returns what a process and its ended children have caused to be
// written to a disk (write_bytes: whole pages, so it shows the cost of flushing
// every second) and what they passed to write calls, sockets included.
func storeWritten(t *testing.T, pid int) (disk, calls int64) {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/io", pid))
	require.NoError(t, err)
	read := func(name string) int64 {
		_, rest, ok := strings.Cut("\n"+string(text), "\n"+name+": ")
		require.True(t, ok)
		n, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
		require.NoError(t, err)
		return n
	}
	return read("write_bytes"), read("wchar")
}
