package api

import (
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
)

// Where no credentials are configured, being able to reach the port is the
// permission. A person's browser can reach the port, and it runs the scripts of
// every web page that the person opens. Two ways lead from such a page to a device,
// and both are closed here, with credentials as well as without:
//
//   - DNS rebinding: the attacker's own name is made to resolve to this host, so
//     that to the browser the page and the controller are one origin and it may
//     read and write everything. The request then carries the attacker's name as
//     Host, so every request must name the host by an address, as localhost, or
//     by a name that the operator has listed.
//   - Cross-site requests: a foreign page posts a form or opens a WebSocket
//     straight to the controller's address. The browser tells where it comes from
//     in Origin (and Sec-Fetch-Site), which must be this host itself for
//     everything that changes something and for /ws. Programs that are not
//     browsers send neither and are let through.

// checkHost refuses a Host that an attacker's DNS could point here.
func (h *Handler) checkHost(r *http.Request) error {
	if h.anyHost {
		return nil
	}
	name := hostName(r.Host)
	if name == "localhost" || strings.HasSuffix(name, ".localhost") {
		return nil
	}
	if _, err := netip.ParseAddr(name); err == nil {
		return nil
	}
	if _, ok := h.hosts[name]; ok {
		return nil
	}
	return problemf(http.StatusForbidden,
		"host %.80q is not among the allowed hosts: use the IP address, or add the name to the allowed hosts of the configuration", name)
}

// hostName returns the host without port, brackets, trailing dot and capitals.
func hostName(host string) string {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	return strings.ToLower(strings.TrimSuffix(host, "."))
}

// checkOrigin refuses requests that the page of another site makes. Only the
// host is compared, not the scheme: behind a proxy that ends TLS the browser
// says https where the handler sees http.
func checkOrigin(r *http.Request) error {
	foreign := problemf(http.StatusForbidden, "the request comes from the page of another site")
	if site := r.Header.Get("Sec-Fetch-Site"); site != "" && site != "same-origin" && site != "none" {
		return foreign
	}
	origins := r.Header.Values("Origin")
	if len(origins) == 0 {
		return nil
	}
	// "null" (sandboxed pages, files) has no host and is refused as well.
	u, err := url.Parse(origins[0])
	if err != nil || len(origins) > 1 || u.Host == "" || !strings.EqualFold(u.Host, r.Host) {
		return foreign
	}
	return nil
}

// secure sets the headers that every answer carries; the page loosens the
// content security policy for its own files.
func secure(header http.Header) {
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("X-Frame-Options", "DENY")
	header.Set("Referrer-Policy", "no-referrer")
	header.Set("Cross-Origin-Resource-Policy", "same-origin")
	header.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
	header.Set("Cache-Control", "no-store")
}
