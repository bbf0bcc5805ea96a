package auth

import (
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

// peer is the other end of the connection, not valid for a unix socket.
func peer(r *http.Request) netip.Addr {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		host = r.RemoteAddr
	}
	a, err := netip.ParseAddr(host)
	if err != nil {
		return netip.Addr{}
	}
	return a.Unmap().WithZone("")
}

// Local reports whether the connection comes from this machine: from a loopback
// address or over a unix socket.
func Local(r *http.Request) bool {
	if a := peer(r); a.IsValid() {
		return a.IsLoopback()
	}
	return strings.HasPrefix(r.RemoteAddr, "@") || strings.HasPrefix(r.RemoteAddr, "/")
}

// Forwarded reports whether a proxy says that it asks for somebody else.
func Forwarded(r *http.Request) bool {
	return slices.ContainsFunc(proxyHeaders, func(name string) bool { return len(r.Header.Values(name)) > 0 })
}

// proxyHeaders are what proxies add to a request; some add only one of them.
var proxyHeaders = []string{"X-Forwarded-For", "Forwarded", "X-Real-Ip", "X-Forwarded-Host", "X-Forwarded-Proto", "Via"}

// Client returns the address that asks: the peer, or, where that is a trusted
// proxy, the nearest one in X-Forwarded-For that is none. What stands before that
// one anybody may have written. It is not valid for a unix socket.
func (g *Guard) Client(r *http.Request) netip.Addr {
	at := peer(r)
	if !contains(g.proxies, at) {
		return at
	}
	var list []string
	for _, header := range r.Header.Values("X-Forwarded-For") {
		list = append(list, strings.Split(header, ",")...)
	}
	for _, text := range slices.Backward(list) {
		next, err := netip.ParseAddr(strings.TrimSpace(text))
		if err != nil {
			return at // the proxy is the last of whom something is known
		}
		at = next.Unmap().WithZone("")
		if !contains(g.proxies, at) {
			return at
		}
	}
	return at
}

func contains(list []netip.Prefix, a netip.Addr) bool {
	return slices.ContainsFunc(list, func(p netip.Prefix) bool { return p.Contains(a) })
}

// Group returns the text under which an address is counted. Of IPv6 it is the
// network, for whoever has one address there has all of them.
func Group(a netip.Addr) string {
	if a.Is6() {
		if p, err := a.Prefix(64); err == nil {
			return p.String()
		}
	}
	return a.String()
}
