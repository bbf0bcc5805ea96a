package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"net/http"
	"slices"
	"time"

	"github.com/voltageems/voltage/model"
)

// distribution sums up latencies, in ms.
type distribution struct {
	Probes int     `json:"probes"`
	P50    float64 `json:"p50"`
	P99    float64 `json:"p99"`
	Max    float64 `json:"max"`
	// Failed probes are in none of the figures; Failure is the first one's reason.
	Failed  int    `json:"failed,omitempty"`
	Failure string `json:"failure,omitempty"`
}

// samples are latencies, in ms.
type samples []float64

func (s *samples) add(d time.Duration) { *s = append(*s, float64(d)/float64(time.Millisecond)) }

// probe calls one after the other, with random pauses between, and measures how
// long each takes. One that fails is counted and the others go on. The error is
// the end of ctx.
func probe(ctx context.Context, probes int, until time.Time, one func(ctx context.Context) error) (distribution, error) {
	var taken samples
	var failed int
	var failure string
	for n := 0; n < probes && time.Now().Before(until); n++ {
		if err := pause(ctx); err != nil {
			return distribution{}, err
		}
		limited, cancel := context.WithTimeout(ctx, probeTimeout)
		start := time.Now()
		err := one(limited)
		took := time.Since(start)
		cancel()
		switch {
		case ctx.Err() != nil:
			return distribution{}, ctx.Err()
		case err == nil:
			taken.add(took)
		default:
			if failed++; failed == 1 {
				failure = err.Error()
			}
		}
	}
	d := taken.distribution()
	d.Failed, d.Failure = failed, failure
	return d, nil
}

// pause waits for a random time.
func pause(ctx context.Context) error {
	t := time.NewTimer(rand.N(probePause))
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

func (s samples) distribution() distribution {
	if len(s) == 0 {
		return distribution{}
	}
	slices.Sort(s)
	return distribution{Probes: len(s), P50: s.rank(0.5), P99: s.rank(0.99), Max: s[len(s)-1]}
}

// rank returns a percentile by the nearest rank: the smallest value that at
// least a part q of all values does not exceed.
func (s samples) rank(q float64) float64 {
	return s[max(int(math.Ceil(q*float64(len(s))))-1, 0)]
}

// poster gives commands over HTTP on one connection that is kept.
type poster struct {
	url    string
	client http.Client
}

func newPoster(url string) *poster {
	return &poster{url: url, client: http.Client{Transport: &http.Transport{}}}
}

// command gives a command and waits until it is verified.
func (p *poster) command(ctx context.Context, value float64) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, p.url, bytes.NewReader(fmt.Appendf(nil, `{"value":%g}`, value)))
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/json")
	answer, err := p.client.Do(request)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	var result model.CommandResult
	if err := json.NewDecoder(answer.Body).Decode(&result); err != nil {
		return fmt.Errorf("command: HTTP %s: %w", answer.Status, err)
	}
	if answer.StatusCode != http.StatusOK || result.State != model.CommandVerified {
		return fmt.Errorf("command: HTTP %s, state %q, %s: want 200 and verified", answer.Status, result.State, result.Detail)
	}
	return nil
}
