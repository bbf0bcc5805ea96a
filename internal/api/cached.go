package api

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"strings"

	"github.com/voltageems/voltage/scripts"
)

// cached answers 200 with what build makes as JSON, which the site may have kept
// from before, or 304 to a client that has the same already. Whatever is kept, a
// client has to ask again each time.
func (h *Handler) cached(ctx context.Context, w http.ResponseWriter, r *http.Request, a scripts.Answer, build func() (any, error)) error {
	body, err := h.site.Cached(ctx, a, func() ([]byte, error) {
		v, err := build()
		if err != nil {
			return nil, err
		}
		return json.Marshal(v)
	})
	if err != nil {
		return err
	}
	// Of the content, not of its version, so that every engine of the site
	// gives the same tag.
	sum := sha256.Sum256(body)
	tag := `"` + base64.RawURLEncoding.EncodeToString(sum[:16]) + `"`
	w.Header().Set("ETag", tag)
	w.Header().Set("Cache-Control", "no-cache")
	if hasTag(r.Header.Values("If-None-Match"), tag) {
		w.WriteHeader(http.StatusNotModified)
		return nil
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusOK)
	_, _ = w.Write(append(body, '\n')) // a failed write means that the client is gone
	return nil
}

// hasTag reports whether a client has the answer with the tag. A proxy that
// packed the answer makes a weak tag of it, which is as good here.
func hasTag(ifNoneMatch []string, tag string) bool {
	for _, list := range ifNoneMatch {
		for one := range strings.SplitSeq(list, ",") {
			if one = strings.TrimPrefix(strings.TrimSpace(one), "W/"); one == tag || one == "*" {
				return true
			}
		}
	}
	return false
}
