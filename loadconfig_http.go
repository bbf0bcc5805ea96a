package voltage

import (
	"fmt"
	"time"

	"github.com/voltageems/voltage/model"
)

type loadHTTP struct {
	Listen         string        `yaml:"listen"`
	TLS            loadHTTPTLS   `yaml:"tls"`
	Insecure       bool          `yaml:"insecure"`
	Keys           []loadAPIKey  `yaml:"keys"`
	JWT            loadJWT       `yaml:"jwt"`
	AllowedHosts   []string      `yaml:"allowed_hosts"`
	TrustedProxies []string      `yaml:"trusted_proxies"`
	Rate           float64       `yaml:"rate"`
	OpenProbes     bool          `yaml:"open_probes"`
	Cache          time.Duration `yaml:"cache"`
}

type loadHTTPTLS struct {
	CertFile     string `yaml:"cert_file"`
	KeyFile      string `yaml:"key_file"`
	ClientCAFile string `yaml:"client_ca_file"`
}

type loadAPIKey struct {
	Name    string   `yaml:"name"`
	Role    string   `yaml:"role"`
	Key     string   `yaml:"key"`
	Hash    string   `yaml:"hash"`
	Expires loadTime `yaml:"expires"`
	From    []string `yaml:"from"`
}

type loadJWT struct {
	Secret    string        `yaml:"secret"`
	KeyFile   string        `yaml:"key_file"`
	Issuer    string        `yaml:"issuer"`
	Audience  string        `yaml:"audience"`
	RoleClaim string        `yaml:"role_claim"`
	NameClaim string        `yaml:"name_claim"`
	Leeway    time.Duration `yaml:"leeway"`
}

// loadTime is a moment: a day, of which it is the beginning in UTC, or RFC 3339.
type loadTime time.Time

// UnmarshalText implements encoding.TextUnmarshaler.
func (t *loadTime) UnmarshalText(b []byte) error {
	for _, layout := range []string{time.DateOnly, time.RFC3339} {
		if at, err := time.Parse(layout, string(b)); err == nil {
			*t = loadTime(at)
			return nil
		}
	}
	return fmt.Errorf("%.40q is not a time such as 2027-12-31 or 2027-12-31T18:00:00Z", b)
}

// http makes and checks the section of the API.
func (l *loader) http(f loadHTTP) HTTP {
	p := loadPath{"http"}
	h := HTTP{
		Listen: f.Listen, Insecure: f.Insecure, AllowedHosts: f.AllowedHosts, TrustedProxies: f.TrustedProxies,
		Rate: f.Rate, OpenProbes: f.OpenProbes, Cache: f.Cache,
		TLS: HTTPTLS{CertFile: l.relative(f.TLS.CertFile), KeyFile: l.relative(f.TLS.KeyFile), ClientCAFile: l.relative(f.TLS.ClientCAFile)},
		JWT: HTTPJWT{Secret: f.JWT.Secret, KeyFile: l.relative(f.JWT.KeyFile), Issuer: f.JWT.Issuer, Audience: f.JWT.Audience,
			RoleClaim: f.JWT.RoleClaim, NameClaim: f.JWT.NameClaim, Leeway: f.JWT.Leeway},
	}
	for _, k := range f.Keys {
		h.Keys = append(h.Keys, APIKey{Name: k.Name, Role: model.Role(k.Role), Key: k.Key, Hash: k.Hash, Expires: time.Time(k.Expires), From: k.From})
	}
	broken := false // a key that could not be read is no key that is missing
	for _, key := range []string{"listen", "tls", "insecure", "keys", "jwt"} {
		broken = broken || l.brokenUnder(p.with(key))
	}
	if !broken && !l.isBroken(p) {
		l.checkPart(p, Config{HTTP: h}, "listen", "tls", "keys", "jwt", "allowed_hosts", "trusted_proxies", "rate", "cache")
	}
	// A section that is there but says nothing must not mean that nobody needs to log in.
	for _, key := range []string{"keys", "jwt"} {
		if at := p.with(key); l.has(at) && !l.brokenUnder(at) && (key == "keys" && len(h.Keys) == 0 || key == "jwt" && h.JWT == (HTTPJWT{})) {
			l.fail(at, "empty: want credentials, or no key %s at all, with which only this machine is served", key)
		}
	}
	if l.zero(p.with("cache"), f.Cache) {
		l.fail(p.with("cache"), "0s: want a time, -1s to keep no answer, or nothing for the default")
	}
	if at := p.with("rate"); f.Rate == 0 && !l.isBroken(at) && l.has(at) {
		l.fail(at, "0: want requests a second, -1 for any number, or nothing for the default")
	}
	return h
}
