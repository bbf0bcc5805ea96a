package api

import (
	"time"

	"github.com/voltageems/voltage/scripts"
)

// scriptForm is a script as the API shows it.
type scriptForm struct {
	scripts.ScriptState
	Purpose  string        `json:"purpose,omitempty"`
	Manifest *manifestForm `json:"manifest,omitempty"`
	Stats    *statsForm    `json:"stats"`
}

// manifestForm is what the active version's header says.
type manifestForm struct {
	Includes []string   `json:"includes"`
	Forms    []formForm `json:"forms"`
	Reply    string     `json:"reply,omitempty"`
	Codes    []codeForm `json:"codes"`
	Keys     []keyForm  `json:"keys"`
	Notes    string     `json:"notes,omitempty"`
}

type formForm struct {
	Usage   string `json:"usage"`
	Meaning string `json:"meaning"`
}

type codeForm struct {
	Code    string `json:"code"`
	Meaning string `json:"meaning"`
}

type keyForm struct {
	Pattern string `json:"pattern"`
	Access  string `json:"access"`
	Why     string `json:"why"`
}

func newManifestForm(m scripts.Manifest) *manifestForm {
	f := &manifestForm{Includes: list(m.Includes), Reply: m.Reply, Notes: m.Notes,
		Forms: make([]formForm, len(m.Forms)), Codes: make([]codeForm, len(m.Codes)), Keys: make([]keyForm, len(m.Keys))}
	for i, x := range m.Forms {
		f.Forms[i] = formForm{x.Usage, x.Meaning}
	}
	for i, x := range m.Codes {
		f.Codes[i] = codeForm{x.Code, x.Meaning}
	}
	for i, x := range m.Keys {
		f.Keys[i] = keyForm{x.Pattern, x.Access, x.Why}
	}
	return f
}

// statsForm is what the calls of a script came to, on the whole site. Times are
// in ms.
type statsForm struct {
	Calls  int64      `json:"calls"`
	Errors int64      `json:"errors"`
	Lost   int64      `json:"lost"`
	Slow   int64      `json:"slow"`
	Mean   float64    `json:"mean_ms"`
	P99    float64    `json:"p99_ms"`
	Max    float64    `json:"max_ms"`
	Last   *time.Time `json:"last,omitempty"`
	*statsDetail
}

type statsDetail struct {
	Points    int64            `json:"points"`
	PerPoint  float64          `json:"per_point_ms"`
	Total     float64          `json:"total_ms"`
	Refused   map[string]int64 `json:"refused"`
	Histogram []bucketForm     `json:"histogram"`
	Versions  []versionForm    `json:"versions"`
}

// bucketForm counts the calls that took at most so long, cumulatively.
type bucketForm struct {
	UpTo  float64 `json:"up_to_ms"`
	Calls int64   `json:"calls"`
}

type versionForm struct {
	Version string     `json:"version"`
	Calls   int64      `json:"calls"`
	Errors  int64      `json:"errors"`
	Last    *time.Time `json:"last,omitempty"`
}

func newStatsForm(s scripts.ScriptStats) *statsForm {
	return &statsForm{Calls: s.Calls, Errors: s.Errors, Lost: s.Lost, Slow: s.Slow,
		Mean: inMillis(s.Mean()), P99: inMillis(s.Quantile(0.99)), Max: inMillis(s.Max), Last: known(s.Last)}
}

// detail adds what the list of all scripts leaves out.
func (f *statsForm) detail(s scripts.ScriptStats) {
	d := &statsDetail{Points: s.Points, PerPoint: inMillis(s.PerPoint()), Total: inMillis(s.Total),
		Refused: s.Refused, Histogram: make([]bucketForm, len(s.Histogram)), Versions: make([]versionForm, len(s.Versions))}
	if d.Refused == nil {
		d.Refused = map[string]int64{}
	}
	for i, b := range s.Histogram {
		d.Histogram[i] = bucketForm{inMillis(b.UpTo), b.Calls}
	}
	for i, v := range s.Versions {
		d.Versions[i] = versionForm{v.Version, v.Calls, v.Errors, known(v.Last)}
	}
	f.statsDetail = d
}

func inMillis(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// known returns nil for a time that nobody knows.
func known(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}
