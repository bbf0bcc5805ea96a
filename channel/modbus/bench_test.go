package modbus

import (
	"context"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/voltageems/voltage/model"
)

// BenchmarkDecode makes samples of one full answer.
func BenchmarkDecode(b *testing.B) {
	for _, typ := range []string{"int16", "float32", "float32:CDAB", "float64"} {
		b.Run(typ, func(b *testing.B) {
			var all []item
			width := mustParse(b, "holding:0:"+typ).width()
			for n := 0; n+width <= DefaultMaxRead; n += width {
				all = append(all, item{address: mustParse(b, fmt.Sprintf("holding:%d:%s", n, typ)), sample: len(all), factor: 0.1})
			}
			d := &driver{}
			d.samples = make([]model.Sample, len(all))
			plan := makePlan(all, limits{DefaultMaxRead, 0})
			require.Len(b, plan, 1)
			data := make([]byte, 2*DefaultMaxRead)
			for k := range data {
				data[k] = byte(k % 64)
			}
			b.ReportAllocs()
			b.ResetTimer()
			for range b.N {
				d.take(&plan[0], data)
			}
			b.ReportMetric(float64(b.N*plan[0].count)/b.Elapsed().Seconds(), "registers/s")
		})
	}
}

// BenchmarkRead reads 1,000 int16 registers a round over loopback; a bare
// peer's work is counted in.
func BenchmarkRead(b *testing.B) { benchmarkRead(b) }

// BenchmarkReadPipelined is BenchmarkRead with all requests of a round together.
func BenchmarkReadPipelined(b *testing.B) { benchmarkRead(b, Pipeline(8)) }

func benchmarkRead(b *testing.B, opts ...Option) {
	b.Helper()
	address := lean(b)
	var points []model.Point
	for n := range 1000 {
		points = append(points, point(fmt.Sprint(n), fmt.Sprintf("holding:%d:int16", n)))
	}
	s := setup(points...)
	s.Scan = 1 // as fast as it goes
	d := connected(b, TCP(address, opts...), s)
	b.ReportAllocs()
	b.ResetTimer()
	for range b.N {
		if _, err := d.Read(context.Background()); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N*len(points))/b.Elapsed().Seconds(), "registers/s")
}
