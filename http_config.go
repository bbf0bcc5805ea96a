package voltage

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"time"

	"github.com/voltageems/voltage/internal/auth"
	"github.com/voltageems/voltage/model"
	"github.com/voltageems/voltage/scripts"
)

// DefaultRate is how many requests a second one credential may make on average.
const DefaultRate = 100

// HTTP is the configuration of the API, the WebSocket and the page. Without Keys
// and JWT there are no credentials: then only this machine is served, and it may do
// everything.
type HTTP struct {
	// Listen is the address of the engine's own server, such as "127.0.0.1:8080".
	// Empty means no server. Addresses that are not loopback need credentials, and
	// TLS or Insecure.
	Listen string
	// TLS serves HTTPS, TLS 1.2 or later. The zero value serves HTTP.
	TLS HTTPTLS
	// Insecure accepts that credentials and commands cross the network in the clear,
	// as behind a proxy that ends TLS.
	Insecure bool
	// Keys are static API keys. None means that none is accepted.
	Keys []APIKey
	// JWT accepts JSON Web Tokens. The zero value accepts none.
	JWT HTTPJWT
	// AllowedHosts are the names under which a proxy or a browser may reach
	// the API, beside localhost and IP addresses.
	AllowedHosts []string
	// TrustedProxies are addresses or networks (CIDR) of proxies whose
	// X-Forwarded-For is believed. None means that none is.
	TrustedProxies []string
	// Rate is how many requests a second each credential may make on average, and
	// each address without one; twice as many at once. Zero means 100 where there are
	// credentials and any number where there are none; negative means any number.
	Rate float64
	// OpenProbes lets this machine read /metrics and /readyz without a credential.
	OpenProbes bool
	// Cache is how long an answer (the values of a model, the models, the open
	// alarms) is kept on the store at most, at longest an hour. It is forgotten
	// when what it shows changes, so that this is only how late a client learns
	// of what another program wrote without the scripts. Zero means 5 s, negative
	// that no answer is kept.
	Cache time.Duration
}

// HTTPTLS names PEM files. They are read at start, and again when they change.
type HTTPTLS struct {
	// CertFile is the certificate with its chain, KeyFile its private key. Both or
	// none.
	CertFile, KeyFile string
	// ClientCAFile has authorities; where it is given, a client needs a certificate
	// of one of them to connect, and a credential all the same.
	ClientCAFile string
}

// APIKey is a long random text that a program sends with each request.
type APIKey struct {
	// Name says whose it is, in records and journals: 1 to 64 bytes, unique. Required.
	Name string
	// Role is what it may do. Required.
	Role model.Role
	// Key is the key itself, at least 20 characters; Hash is "sha256:" and the hex
	// digest of it. One of the two is required; with Hash, whoever reads the
	// configuration cannot use the key. SHA-256 is no protection for a password that
	// a person chose.
	Key, Hash string
	// Expires is when it ends. Zero means never.
	Expires time.Time
	// From are the addresses or networks (CIDR) that may use it. None means all.
	From []string
}

// HTTPJWT says which JSON Web Tokens are accepted: those with a signature that
// verifies, an exp that is not over, and a role. The algorithm is that of the key:
// HS256 for Secret, RS256, ES256 (P-256) or EdDSA (Ed25519) for those of KeyFile.
type HTTPJWT struct {
	// Secret has at least 32 bytes. One of Secret and KeyFile is given.
	Secret string
	// KeyFile has public keys: PEM, or a JWK set. It is read again when it changes.
	KeyFile string
	// Issuer and Audience are what iss must be and aud must have. With KeyFile both
	// are required, for its keys sign tokens for others, too; with Secret, empty means
	// that it is not looked at.
	Issuer, Audience string
	// RoleClaim is the claim with the role: a name, or a list of which the highest
	// counts. Empty means "role". NameClaim is the claim with the name for records, of
	// at most 64 bytes. Empty means "sub".
	RoleClaim, NameClaim string
	// Leeway is how far the issuer's clock may differ, at most 5 minutes. Zero means
	// 30 s.
	Leeway time.Duration
}

func (h HTTP) credentials() bool { return len(h.Keys) > 0 || h.JWT != (HTTPJWT{}) }

func (h HTTP) withDefaults() HTTP {
	if h.Cache == 0 {
		h.Cache = DefaultCache
	}
	if h.Rate == 0 && h.credentials() {
		h.Rate = DefaultRate
	}
	if h.JWT != (HTTPJWT{}) {
		if h.JWT.RoleClaim == "" {
			h.JWT.RoleClaim = "role"
		}
		if h.JWT.NameClaim == "" {
			h.JWT.NameClaim = "sub"
		}
		if h.JWT.Leeway == 0 {
			h.JWT.Leeway = 30 * time.Second
		}
	}
	return h
}

// validate returns every fault, each beginning with "http: " and the key.
func (h HTTP) validate() error {
	var errs []error
	bad := func(format string, args ...any) {
		errs = append(errs, fmt.Errorf("%w: http: "+format, append([]any{model.ErrInvalid}, args...)...))
	}
	if h.Cache > scripts.MaxCacheTTL {
		bad("cache %s: want at most %s", h.Cache, scripts.MaxCacheTTL)
	}
	if !model.Finite(h.Rate) || h.Rate > 0 && h.Rate < 0.1 {
		bad("rate %v: want at least 0.1 requests a second, or a negative number for any number", h.Rate)
	}
	if t := h.TLS; (t.CertFile == "") != (t.KeyFile == "") || t.ClientCAFile != "" && t.CertFile == "" {
		bad("tls: want cert_file and key_file, both or none")
	}
	if _, err := prefixes(h.TrustedProxies); err != nil {
		bad("trusted_proxies: %w", err)
	}
	h.validateListen(bad)
	names, digests := map[string]bool{}, map[[sha256.Size]byte]bool{}
	for i, k := range h.Keys {
		at := fmt.Sprintf("keys: key %d (%.64q)", i+1, k.Name)
		if k.Name == "" || !model.PlainText(k.Name, 64) {
			bad("%s: want a name of 1 to 64 bytes", at)
		}
		digest, err := k.digest()
		if err != nil {
			bad("%s: %w", at, err)
		} else if digests[digest] {
			bad("%s: another key is the same", at)
		}
		if names[k.Name] {
			bad("%s: the name is there twice", at)
		}
		names[k.Name], digests[digest] = true, true
		if !k.Role.Valid() {
			bad("%s: role %.40q: want viewer, operator, engineer or admin", at, string(k.Role))
		}
		if _, err := prefixes(k.From); err != nil {
			bad("%s: from: %w", at, err)
		}
	}
	if j := h.JWT; j != (HTTPJWT{}) {
		switch {
		case (j.Secret == "") == (j.KeyFile == ""):
			bad("jwt: want one of secret and key_file")
		case j.Secret != "" && len(j.Secret) < 32:
			bad("jwt: the secret is too short: want at least 32 bytes")
		case j.KeyFile != "" && (j.Issuer == "" || j.Audience == ""):
			bad("jwt: want issuer and audience with key_file: its keys may sign tokens for others, too")
		}
		if j.Leeway < 0 || j.Leeway > 5*time.Minute {
			bad("jwt: leeway %s: want up to 5m", j.Leeway)
		}
	}
	return errors.Join(errs...)
}

func (h HTTP) validateListen(bad func(format string, args ...any)) {
	if h.Listen == "" {
		return
	}
	host, _, err := net.SplitHostPort(h.Listen)
	if err != nil {
		bad("listen %.80q: want host:port", h.Listen)
		return
	}
	if ip := net.ParseIP(host); host == "localhost" || ip != nil && ip.IsLoopback() {
		return
	}
	switch {
	case !h.credentials():
		bad("listen %.80q: without credentials only loopback addresses are served: add keys or jwt", h.Listen)
	case h.TLS == (HTTPTLS{}) && !h.Insecure:
		bad("listen %.80q: credentials would cross the network in the clear: add tls, or insecure where a proxy or tunnel protects them", h.Listen)
	}
}

// digest returns the digest of the key, whichever way it is given.
func (k APIKey) digest() (d [sha256.Size]byte, err error) {
	switch {
	case (k.Key == "") == (k.Hash == ""):
		return d, errors.New("want one of key and hash")
	case k.Key != "" && len(k.Key) < 20:
		return d, errors.New("the key is too short: want at least 20 random characters")
	case k.Key != "":
		return sha256.Sum256([]byte(k.Key)), nil
	}
	text, ok := strings.CutPrefix(k.Hash, "sha256:")
	sum, err := hex.DecodeString(text)
	if !ok || err != nil || len(sum) != len(d) {
		return d, errors.New(`hash: want "sha256:" and 64 hexadecimal digits`)
	}
	return [sha256.Size]byte(sum), nil
}

// prefixes reads addresses and networks.
func prefixes(list []string) ([]netip.Prefix, error) {
	var all []netip.Prefix
	for _, text := range list {
		p, err := netip.ParsePrefix(text)
		if a, e := netip.ParseAddr(text); e == nil {
			p, err = netip.PrefixFrom(a, a.BitLen()), nil
		}
		if err != nil {
			return nil, fmt.Errorf("%.60q: want an address or a network such as 10.0.0.0/8", text)
		}
		all = append(all, p)
	}
	return all, nil
}

// guard makes the guard of a valid configuration with defaults.
func (h HTTP) guard(clock model.Clock) *auth.Guard {
	c := auth.Config{Rate: h.Rate, Clock: clock}
	c.Proxies, _ = prefixes(h.TrustedProxies) // valid, as is what follows
	for _, k := range h.Keys {
		key := auth.Key{Name: k.Name, Role: k.Role, Expires: k.Expires}
		key.Digest, _ = k.digest()
		key.From, _ = prefixes(k.From)
		c.Keys = append(c.Keys, key)
	}
	if j := h.JWT; j != (HTTPJWT{}) {
		c.JWT = &auth.JWT{Secret: []byte(j.Secret), KeyFile: j.KeyFile, Issuer: j.Issuer, Audience: j.Audience,
			RoleClaim: j.RoleClaim, NameClaim: j.NameClaim, Leeway: j.Leeway}
	}
	return auth.New(c)
}
