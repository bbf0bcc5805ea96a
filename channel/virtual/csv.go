package virtual

import (
	"bufio"
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/voltageems/voltage/model"
)

// maxFile bounds a recording, in bytes, and with it what it takes in memory.
const maxFile = 32 << 20

// table is what a recording's file holds of the columns that were asked for.
type table struct {
	seconds []float64            // since the first row, rising
	columns map[string][]float64 // as long as seconds; NaN where a cell is empty
}

// row returns the row that holds at t seconds after the first.
func (r *table) row(t float64, loop bool) int {
	last := len(r.seconds) - 1
	if loop && last > 0 {
		t = math.Mod(t, 2*r.seconds[last]-r.seconds[last-1])
	}
	at, exact := slices.BinarySearch(r.seconds, t)
	if !exact {
		at--
	}
	return min(max(at, 0), last)
}

// readFile reads the columns of a recording.
func readFile(ctx context.Context, name string, columns []string) (*table, error) {
	// A pipe would block here for as long as nobody writes to it.
	info, err := os.Stat(name)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s: not a regular file", name)
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return readTable(ctx, f, name, columns, maxFile)
}

// readTable reads a recording of at most limit bytes.
func readTable(ctx context.Context, from io.Reader, name string, columns []string, limit int64) (*table, error) {
	bounded := &io.LimitedReader{R: from, N: limit + 1}
	text := bufio.NewReader(bounded)
	if mark, _ := text.Peek(3); string(mark) == "\ufeff" { // as spreadsheets write it
		_, _ = text.Discard(3)
	}
	in := csv.NewReader(text)
	in.ReuseRecord = true
	fail := func(err error) error {
		var parse *csv.ParseError
		switch {
		case bounded.N <= 0:
			return fmt.Errorf("%s: larger than %d bytes", name, limit)
		case errors.As(err, &parse):
			return fmt.Errorf("%s:%d: column %d: %w", name, parse.Line, parse.Column, parse.Err)
		}
		return fmt.Errorf("%s: %w", name, err)
	}
	header, err := in.Read()
	if err == io.EOF {
		return nil, fmt.Errorf("%s:1: empty: want a header line that names the columns", name)
	}
	if err != nil {
		return nil, fail(err)
	}
	timeName := strings.TrimSpace(header[0]) // the next Read reuses header
	at, err := find(header, columns)
	if err != nil {
		return nil, fmt.Errorf("%s:1: %w", name, err)
	}
	out := &table{columns: make(map[string][]float64, len(columns))}
	values := make([][]float64, len(columns))
	var times timeColumn
	for n := 0; ; n++ {
		if n%1024 == 0 && ctx.Err() != nil {
			return nil, ctx.Err()
		}
		record, err := in.Read()
		if err == io.EOF && bounded.N > 0 {
			break
		}
		if err != nil || bounded.N <= 0 {
			return nil, fail(err)
		}
		line, _ := in.FieldPos(0)
		seconds, err := times.read(record[0])
		if err != nil {
			return nil, fmt.Errorf("%s:%d: column %q: %w", name, line, timeName, err)
		}
		if n > 0 && !(seconds > out.seconds[n-1]) {
			return nil, fmt.Errorf("%s:%d: time %q: not after the row before", name, line, record[0])
		}
		out.seconds = append(out.seconds, seconds)
		for i, column := range at {
			v, err := cell(record[column])
			if err != nil {
				line, _ := in.FieldPos(column)
				return nil, fmt.Errorf("%s:%d: column %q: %w", name, line, columns[i], err)
			}
			values[i] = append(values[i], v)
		}
	}
	if len(out.seconds) == 0 {
		return nil, fmt.Errorf("%s: no rows below the header", name)
	}
	for i, column := range columns {
		out.columns[column] = values[i]
	}
	return out, nil
}

// find returns the place of each column.
func find(header, columns []string) ([]int, error) {
	places := make([]int, len(columns))
	for i, column := range columns {
		for at, name := range header {
			if at == 0 || strings.TrimSpace(name) != column {
				continue
			}
			if places[i] > 0 {
				return nil, fmt.Errorf("column %q is there twice", column)
			}
			places[i] = at
		}
		if places[i] == 0 {
			return nil, fmt.Errorf("no column %q beside the time", column)
		}
	}
	return places, nil
}

// cell reads a value; an empty cell is a gap.
func cell(s string) (float64, error) {
	s = strings.TrimSpace(s)
	if s == "" {
		return math.NaN(), nil
	}
	v, err := strconv.ParseFloat(s, 64)
	if err != nil || !model.Storable(v) {
		return 0, fmt.Errorf("%q is not a number within ±1e15", s)
	}
	return v, nil
}

// timeColumn reads times, all in the form that the first one has.
type timeColumn struct {
	begun   bool
	seconds bool // numbers, else RFC 3339
	start   float64
	from    time.Time
}

// read returns the seconds since the first row.
func (c *timeColumn) read(s string) (float64, error) {
	s = strings.TrimSpace(s)
	v, err := strconv.ParseFloat(s, 64)
	number := err == nil && model.Storable(v)
	if !c.begun {
		c.seconds, c.start = number, v
	}
	if number && c.seconds {
		c.begun = true
		return v - c.start, nil
	}
	t, err := time.Parse(time.RFC3339, s)
	if err != nil || c.seconds {
		want := "neither seconds nor RFC 3339"
		switch {
		case c.seconds:
			want = "not seconds, as the first row has"
		case c.begun:
			want = "not RFC 3339, as the first row has"
		}
		return 0, fmt.Errorf("time %q is %s", s, want)
	}
	if !c.begun {
		c.begun, c.from = true, t
	}
	return t.Sub(c.from).Seconds(), nil
}
