package virtual

import (
	"context"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// recording writes a CSV file.
func recording(t testing.TB, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "recording.csv")
	require.NoError(t, os.WriteFile(path, []byte(content), 0o600))
	return path
}

func readString(content string, columns ...string) (*table, error) {
	return readTable(context.Background(), strings.NewReader(content), "day.csv", columns, 1000)
}

func TestReadTable(t *testing.T) {
	t.Parallel()
	for name, content := range map[string]string{
		"seconds":    "t,power,soc\n10,1,50\n11.5,-2,\n20,3e2,51\n",
		"RFC 3339":   "t,power,soc\n2026-01-01T00:00:10Z,1,50\n2026-01-01T01:00:11.5+01:00,-2,\n2026-01-01T00:00:20Z,3e2,51\n",
		"spaces":     " t , power, soc\n10 , 1 ,50\n 11.5,-2, \n20,3e2,51\n",
		"mark, CRLF": "\ufeff\"t\",power,\"soc\"\r\n10,1,50\r\n11.5,\"-2\",\r\n20,3e2,51",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := readString(content, "soc", "power")
			require.NoError(t, err)
			require.Equal(t, []float64{0, 1.5, 10}, got.seconds)
			require.Equal(t, []float64{1, -2, 300}, got.columns["power"])
			require.Equal(t, 50.0, got.columns["soc"][0])
			require.True(t, math.IsNaN(got.columns["soc"][1]))
			require.Equal(t, 51.0, got.columns["soc"][2])
		})
	}
}

func TestReadTableErrors(t *testing.T) {
	t.Parallel()
	for content, want := range map[string]string{
		"":                                      "day.csv:1: empty",
		"t,power\n":                             "day.csv: no rows",
		"t,voltage\n1,2\n":                      `day.csv:1: no column "power"`,
		"power,t\n1,2\n":                        `day.csv:1: no column "power" beside the time`,
		"t,power,power\n1,2,3\n":                `day.csv:1: column "power" is there twice`,
		"t,power\n1,2\n2,x\n":                   `day.csv:3: column "power": "x" is not a number`,
		"t,power\n1,2\n\n2,inf\n":               `day.csv:4: column "power": "inf" is not a number`,
		"t,power\n1,2\n1,3\n":                   `day.csv:3: time "1": not after the row before`,
		"t,power\nnow,2\n":                      `day.csv:2: column "t": time "now" is neither seconds nor RFC 3339`,
		"t,power\n1,2\n2026-01-01T00:00:00Z,3":  "is not seconds, as the first row has",
		"t,power\n2026-01-01T00:00:00Z,3\n1,2":  "is not RFC 3339, as the first row has",
		"t,power\n1\n":                          "day.csv:2: column 1: wrong number of fields",
		"t,power\n1,\"2\n":                      "day.csv:",
		"t,power\n" + strings.Repeat(" ", 1000): "day.csv: larger than 1000 bytes",
	} {
		_, err := readString(content, "power")
		require.ErrorContains(t, err, want, content)
	}
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	_, err := readTable(ended, strings.NewReader("t,power\n1,2\n"), "day.csv", []string{"power"}, 1000)
	require.ErrorIs(t, err, context.Canceled)
}

func TestReadFileErrors(t *testing.T) {
	t.Parallel()
	_, err := readFile(t.Context(), filepath.Join(t.TempDir(), "none.csv"), nil)
	require.ErrorIs(t, err, os.ErrNotExist)
	_, err = readFile(t.Context(), t.TempDir(), nil)
	require.ErrorContains(t, err, "not a regular file")
}

func TestRow(t *testing.T) {
	t.Parallel()
	r := &table{seconds: []float64{0, 2, 5}}
	for _, c := range []struct {
		at   float64
		row  int
		loop int
	}{{-1, 0, 0}, {0, 0, 0}, {1.9, 0, 0}, {2, 1, 1}, {4.9, 1, 1}, {5, 2, 2}, {7.9, 2, 2}, {8, 2, 0}, {10, 2, 1}, {1e12 + 3, 2, 1}} {
		require.Equal(t, c.row, r.row(c.at, false), "at %v", c.at)
		require.Equal(t, c.loop, r.row(c.at, true), "at %v in a loop", c.at)
	}
	one := &table{seconds: []float64{0}}
	require.Zero(t, one.row(9, true))
}

// FuzzReadTable wants every file to be refused or to give a table that holds at
// all times.
func FuzzReadTable(f *testing.F) {
	for _, s := range []string{
		"t,power\n1,2\n2,\n", "t,power\n2026-01-01T00:00:00Z,3\n", "\ufefft,power\r\n-1e15,1\r\n1e15,2", "\"", "t,power,power\n", "",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, content string) {
		got, err := readString(content, "power")
		if err != nil {
			require.True(t, strings.HasPrefix(err.Error(), "day.csv:"), err.Error())
			return
		}
		require.NotEmpty(t, got.seconds)
		require.Len(t, got.columns["power"], len(got.seconds))
		require.Zero(t, got.seconds[0])
		for i := 1; i < len(got.seconds); i++ {
			require.Greater(t, got.seconds[i], got.seconds[i-1])
		}
		for _, at := range []float64{-1, 0, 1, 1e9, 1e18} {
			for _, loop := range []bool{false, true} {
				row := got.row(at, loop)
				require.True(t, row >= 0 && row < len(got.seconds))
			}
		}
	})
}
