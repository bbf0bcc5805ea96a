package api

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"net/http"
	"path"
	"time"
)

// pageFiles are the live page, its parts, and the API's description: everything
// comes from the program itself, for a plant network has no way out.
//
//go:embed page openapi.json
var pageFiles embed.FS

// pagePolicy lets the page load its own files and talk to its own host, and
// nothing else: no inline scripts, no other origins, no framing.
const pagePolicy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

func (h *Handler) page(w http.ResponseWriter, r *http.Request) error {
	return h.file(w, r, "page/index.html")
}

func (h *Handler) pageFile(w http.ResponseWriter, r *http.Request) error {
	return h.file(w, r, "page/"+r.PathValue("file"))
}

func (h *Handler) openAPI(w http.ResponseWriter, r *http.Request) error {
	return h.file(w, r, "openapi.json")
}

func (h *Handler) file(w http.ResponseWriter, r *http.Request, name string) error {
	// embed.FS refuses names with "..", so only these files can be had.
	content, err := pageFiles.ReadFile(name)
	if err != nil {
		return problemf(http.StatusNotFound, "there is no such file")
	}
	header := w.Header()
	if name != "openapi.json" {
		header.Set("Content-Security-Policy", pagePolicy)
	}
	// The browser asks each time whether the file changed: after an update of the
	// firmware it must not go on with the old page.
	sum := sha256.Sum256(content)
	header.Set("ETag", `"`+hex.EncodeToString(sum[:8])+`"`)
	header.Set("Cache-Control", "no-cache")
	header.Set("Content-Type", contentType(name))
	http.ServeContent(w, r, name, time.Time{}, bytes.NewReader(content))
	return nil
}

// contentType does not rely on the machine's own table, which may lack or
// redefine what the page needs.
func contentType(name string) string {
	switch path.Ext(name) {
	case ".html":
		return "text/html; charset=utf-8"
	case ".css":
		return "text/css; charset=utf-8"
	case ".js":
		return "text/javascript; charset=utf-8"
	case ".svg":
		return "image/svg+xml"
	case ".json":
		return "application/json"
	}
	return "application/octet-stream"
}
