package api

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/voltageems/voltage/model"
	"github.com/voltageems/voltage/scripts"
	"github.com/voltageems/voltage/scripts/storetest"
)

func TestETag(t *testing.T) {
	t.Parallel()
	site := newFakeSite()
	h := newHandler(t, site, nil)
	for _, target := range []string{"/models", "/models/meter/values", "/alarms", "/alarms?state=active", "/alarms?model=meter"} {
		first := do(h, "GET", target, "")
		require.Equal(t, 200, first.Code, target)
		require.Equal(t, "application/json", first.Header().Get("Content-Type"), target)
		require.Equal(t, "no-cache", first.Header().Get("Cache-Control"), target)
		tag := first.Header().Get("ETag")
		require.Regexp(t, `^"[\w-]{22}"$`, tag, target)
		require.Equal(t, byte('\n'), first.Body.Bytes()[first.Body.Len()-1], target)
		for _, same := range []string{tag, "W/" + tag, `"other", ` + tag, "*"} {
			w := do(h, "GET", target, "", "If-None-Match", same)
			require.Equal(t, 304, w.Code, "%s %s", target, same)
			require.Zero(t, w.Body.Len())
			require.Equal(t, tag, w.Header().Get("ETag"))
			require.Equal(t, "no-cache", w.Header().Get("Cache-Control"))
		}
		require.Equal(t, 200, do(h, "GET", target, "", "If-None-Match", `"other"`).Code, target)
	}
	tag := do(h, "GET", "/models/meter/values", "").Header().Get("ETag")
	site.setValue("meter", "active_power", func(v *model.Value) { v.Value++ })
	w := do(h, "GET", "/models/meter/values", "", "If-None-Match", tag)
	require.Equal(t, 200, w.Code)
	require.NotEqual(t, tag, w.Header().Get("ETag"))
	for _, target := range []string{"/models/none/values", "/alarms?state=x"} {
		w := do(h, "GET", target, "", "If-None-Match", "*")
		require.GreaterOrEqual(t, w.Code, 400, target)
		require.Empty(t, w.Header().Get("ETag"), target)
		require.Equal(t, "no-store", w.Header().Get("Cache-Control"), target)
	}
}

// Kept answers pass through as they are; those that are not kept, such as alarms,
// do not get those of others.
func TestKeptAnswers(t *testing.T) {
	t.Parallel()
	site := newFakeSite()
	site.kept = map[scripts.Answer][]byte{}
	h := newHandler(t, site, nil)
	first := map[string]string{}
	kept := []string{"/models", "/models/meter/values", "/models/pv/values"}
	built := []string{"/alarms", "/alarms?state=active", "/alarms?model=meter", "/alarms?state=active&severity=low", "/models/meter"}
	for _, target := range append(kept, built...) {
		first[target] = do(h, "GET", target, "").Body.String()
	}
	require.Len(t, site.kept, len(kept))
	site.set(func() { site.err = scripts.ErrStore })
	for _, target := range kept {
		require.Equal(t, first[target], do(h, "GET", target, "").Body.String(), target)
	}
	for _, target := range built {
		require.Equal(t, 503, do(h, "GET", target, "").Code, target)
	}
}

// planeSite shows the values of a real data plane.
type planeSite struct {
	*fakeSite
	plane *scripts.Plane
	name  string
}

func (s planeSite) AlarmStore() (AlarmStore, error) { return s.plane, nil }

func (s planeSite) JournalEnds(ctx context.Context) (alarms, commands string, err error) {
	alarms, err = s.plane.AlarmJournalEnd(ctx)
	return alarms, emptyJournal, err
}

func (s planeSite) Values(ctx context.Context, id string) (map[string]model.Value, error) {
	return s.plane.Values(ctx, id)
}

func (s planeSite) Models(ctx context.Context) ([]model.Instance, error) { return s.plane.Models(ctx) }

func (s planeSite) Points(id string) map[string]model.Point { return s.plane.ModelPoints(id) }

func (s planeSite) Alarms(ctx context.Context) ([]model.Alarm, error) { return s.plane.OpenAlarms(ctx) }

func (s planeSite) Cached(ctx context.Context, a scripts.Answer, build func() ([]byte, error)) ([]byte, error) {
	return s.plane.Cached(ctx, a, build)
}

// newPlaneSite has one model with n measurements and returns what writes them.
func newPlaneSite(t testing.TB, client redis.UniversalClient, n int, ttl time.Duration) (planeSite, func(turn int)) {
	t.Helper()
	ctx := context.Background()
	name := storetest.Site(t)
	p, err := scripts.New(client, scripts.Options{Site: name, CacheTTL: ttl})
	require.NoError(t, err)
	require.NoError(t, p.Prepare(ctx))
	points, samples := make([]model.Point, n), make([]model.Sample, n)
	m := model.Instance{ID: "pcs1", Measurements: map[string]string{}}
	for i := range points {
		id := fmt.Sprint(10001 + i)
		points[i], samples[i].Point = model.Point{ID: id, Unit: "kW"}, id
		m.Measurements[fmt.Sprintf("value_%03d", i)] = "1001:" + id
	}
	require.NoError(t, p.PutPoints(ctx, "1001", points))
	require.NoError(t, p.PutModel(ctx, m))
	lease, err := p.Acquire(ctx, "1001", "engine", time.Hour)
	require.NoError(t, err)
	w := p.NewWriter(lease, points)
	return planeSite{newFakeSite(), p, name}, func(turn int) {
		for i := range samples {
			samples[i].Value = float64(turn%1000)/8 + float64(i)
		}
		_, warnings, err := w.Write(ctx, samples, false)
		assert.NoError(t, err)
		assert.Empty(t, warnings)
	}
}

func TestValuesOfAPlaneAreFresh(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, client redis.UniversalClient) {
		t.Parallel()
		site, write := newPlaneSite(t, client, 3, time.Minute)
		h := newHandler(t, site, nil)
		for turn := range 5 {
			write(8 * turn)
			tag := ""
			for range 5 {
				w := do(h, "GET", "/models/pcs1/values", "", "If-None-Match", tag)
				if tag != "" {
					require.Equal(t, 304, w.Code)
					continue
				}
				tag = w.Header().Get("ETag")
				require.Contains(t, w.Body.String(), fmt.Sprintf(`"value_001":{"value":%d,`, turn+1))
			}
		}
		require.Equal(t, scripts.CacheStats{Hits: 20, Misses: 5, Stored: 5}, site.plane.CacheStats())
	})
}

// benchmarkStores runs f on a real Redis and on the embedded store.
func benchmarkStores(b *testing.B, f func(b *testing.B, client redis.UniversalClient)) {
	b.Run("redis", func(b *testing.B) { f(b, storetest.Client(b, storetest.Redis(b))) })
	b.Run("embedded", func(b *testing.B) { f(b, storetest.Embedded(b)) })
}

// benchmarkGet asks for target again and again; before each, prepare does what
// is not counted.
func benchmarkGet(b *testing.B, site planeSite, client redis.UniversalClient, target string, prepare func(i int)) {
	h := New(Config{Site: site})
	defer func() { assert.NoError(b, h.Close(context.Background())) }()
	r := httptest.NewRequest("GET", target, nil)
	r.RemoteAddr = "127.0.0.1:50000"
	r.Host = "127.0.0.1"
	b.ReportAllocs()
	var used float64
	before := redisCPU(b, client)
	for i := 0; b.Loop(); i++ {
		if prepare != nil {
			b.StopTimer()
			used += redisCPU(b, client) - before
			prepare(i)
			before = redisCPU(b, client)
			b.StartTimer()
		}
		w := discard{header: http.Header{}}
		h.ServeHTTP(&w, r)
		if w.status != http.StatusOK {
			b.Fatal(w.status)
		}
	}
	if used += redisCPU(b, client) - before; used > 0 {
		b.ReportMetric(used*1e6/float64(b.N), "redis-µs/op")
	}
}

// redisCPU returns the CPU seconds that the server has used; 0 on the embedded
// store, which has no CPU time of its own.
func redisCPU(b *testing.B, client redis.UniversalClient) float64 {
	text, err := client.Info(b.Context(), "cpu").Result()
	if err != nil {
		return 0
	}
	var sum float64
	for line := range strings.Lines(text) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), ":")
		if name == "used_cpu_user" || name == "used_cpu_sys" {
			n, err := strconv.ParseFloat(value, 64)
			require.NoError(b, err)
			sum += n
		}
	}
	return sum
}

// BenchmarkValues is GET /models/{id}/values with 100 points: without a cache,
// answered from the cache, and with 1, 5 or 20 reads for each write, which itself
// is not counted.
//
//	go test ./internal/api -run '^$' -bench Values
func BenchmarkValues(b *testing.B) {
	benchmarkStores(b, func(b *testing.B, client redis.UniversalClient) {
		for _, reads := range []int{0, 1, 5, 20} { // 0: never written
			for _, variant := range []struct {
				name string
				ttl  time.Duration
			}{{"plain", 0}, {"cached", time.Hour}} {
				b.Run(fmt.Sprintf("%s/reads=%d", variant.name, reads), func(b *testing.B) {
					site, write := newPlaneSite(b, client, 100, variant.ttl)
					write(0)
					var prepare func(int)
					if reads > 0 {
						prepare = func(i int) {
							if i%reads == 0 {
								write(i)
							}
						}
					}
					benchmarkGet(b, site, client, "/models/pcs1/values", prepare)
				})
			}
		}
	})
}

// BenchmarkDefinitions is GET /models with 50 models of 20 points each.
func BenchmarkDefinitions(b *testing.B) {
	benchmarkStores(b, func(b *testing.B, client redis.UniversalClient) {
		for name, ttl := range map[string]time.Duration{"plain": 0, "cached": time.Hour} {
			b.Run(name, func(b *testing.B) {
				site, _ := newPlaneSite(b, client, 20, ttl)
				models, err := site.Models(b.Context())
				require.NoError(b, err)
				for i := range 50 {
					models[0].ID = fmt.Sprintf("model%02d", i)
					require.NoError(b, site.plane.PutModel(b.Context(), models[0]))
				}
				benchmarkGet(b, site, client, "/models", nil)
			})
		}
	})
}

// BenchmarkAlarms is GET /alarms with no alarm and with 20.
func BenchmarkAlarms(b *testing.B) {
	benchmarkStores(b, func(b *testing.B, client redis.UniversalClient) {
		for _, count := range []int{0, 20} {
			for name, ttl := range map[string]time.Duration{"plain": 0, "cached": time.Hour} {
				b.Run(fmt.Sprintf("%s/open=%d", name, count), func(b *testing.B) {
					site, write := newPlaneSite(b, client, 20, ttl)
					for i := range count {
						require.NoError(b, site.plane.PutAlarmRule(b.Context(), model.AlarmRule{ID: "any", Model: "pcs1",
							Point: fmt.Sprintf("value_%03d", i), Operator: model.Above, Threshold: -1}))
					}
					write(0)
					open, err := site.Alarms(b.Context())
					require.NoError(b, err)
					require.Len(b, open, count)
					benchmarkGet(b, site, client, "/alarms", nil)
				})
			}
		}
	})
}

// discard is an answer that nobody reads.
type discard struct {
	header http.Header
	status int
}

func (d *discard) Header() http.Header            { return d.header }
func (d *discard) WriteHeader(status int)         { d.status = status }
func (d *discard) Write(body []byte) (int, error) { return io.Discard.Write(body) }
