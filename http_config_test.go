package voltage

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/voltageems/voltage/model"
)

// The digest of "a key of twenty letters".
const testHash = "sha256:5d0b0c5f1f3f7d5a1b2b7c2f0c3a4e5d6f708192a3b4c5d6e7f8091a2b3c4d5e"

func TestHTTPValidate(t *testing.T) {
	t.Parallel()
	good := APIKey{Name: "anna", Role: model.RoleOperator, Key: "a key of twenty letters"}
	keys := []APIKey{good}
	jwt := HTTPJWT{Secret: strings.Repeat("s", 32)}
	file := HTTPTLS{CertFile: "c", KeyFile: "k"}
	for _, h := range []HTTP{
		{}, {Listen: "127.0.0.1:0"}, {Listen: "localhost:80"}, {Listen: "[::1]:80"}, {Listen: "127.0.0.1:1", Keys: keys},
		{Listen: ":443", Keys: keys, TLS: file}, {Listen: "0.0.0.0:80", JWT: jwt, Insecure: true},
		{Keys: []APIKey{{Name: "b", Role: model.RoleAdmin, Hash: testHash, From: []string{"10.0.0.0/8", "::1"}, Expires: time.Now()}}, Rate: -1},
		{JWT: HTTPJWT{KeyFile: "f", Issuer: "i", Audience: "a", Leeway: time.Minute}, TrustedProxies: []string{"127.0.0.1"}},
		{Keys: keys, TLS: HTTPTLS{CertFile: "c", KeyFile: "k", ClientCAFile: "a"}},
	} {
		assert.NoError(t, h.validate(), h)
	}
	for want, h := range map[string]HTTP{
		"want host:port":                   {Listen: "8080"},
		"without credentials":              {Listen: "0.0.0.0:80"},
		"without credentials only":         {Listen: "example.org:80", Insecure: true},
		"in the clear":                     {Listen: ":80", Keys: keys},
		"tls: want cert_file and key_file": {TLS: HTTPTLS{CertFile: "c"}},
		"tls: want cert_file":              {TLS: HTTPTLS{ClientCAFile: "c"}},
		"trusted_proxies":                  {TrustedProxies: []string{"proxy"}},
		"rate NaN":                         {Rate: nan()},
		"rate 0.01":                        {Rate: 0.01},
		"keys: key 1 (\"\"): want a name":  {Keys: []APIKey{{Role: model.RoleViewer, Key: good.Key}}},
		"want one of key and hash":         {Keys: []APIKey{{Name: "a", Role: model.RoleViewer}}},
		"one of key and hash":              {Keys: []APIKey{{Name: "a", Role: model.RoleViewer, Key: good.Key, Hash: testHash}}},
		"too short: want at least 20":      {Keys: []APIKey{{Name: "a", Role: model.RoleViewer, Key: "short"}}},
		"64 hexadecimal digits":            {Keys: []APIKey{{Name: "a", Role: model.RoleViewer, Hash: testHash[:60]}}},
		"hash: want":                       {Keys: []APIKey{{Name: "a", Role: model.RoleViewer, Hash: strings.TrimPrefix(testHash, "sha256:")}}},
		`role "root"`:                      {Keys: []APIKey{{Name: "a", Role: "root", Key: good.Key}}},
		"the name is there twice":          {Keys: []APIKey{good, {Name: "anna", Role: model.RoleViewer, Hash: testHash}}},
		"another key is the same":          {Keys: []APIKey{good, {Name: "b", Role: model.RoleViewer, Key: good.Key}}},
		"from: \"x\"":                      {Keys: []APIKey{{Name: "a", Role: model.RoleViewer, Hash: testHash, From: []string{"x"}}}},
		"want one of secret and key_file":  {JWT: HTTPJWT{Issuer: "i"}},
		"one of secret and":                {JWT: HTTPJWT{Secret: jwt.Secret, KeyFile: "f"}},
		"at least 32 bytes":                {JWT: HTTPJWT{Secret: "short"}},
		"want issuer and audience":         {JWT: HTTPJWT{KeyFile: "f"}},
		"leeway 1h0m0s":                    {JWT: HTTPJWT{Secret: jwt.Secret, Leeway: time.Hour}},
		"cache 2h0m0s":                     {Cache: 2 * time.Hour},
	} {
		err := h.validate()
		require.ErrorIs(t, err, model.ErrInvalid, want)
		assert.ErrorContains(t, err, "http: ")
		assert.ErrorContains(t, err, want)
		assert.NotContains(t, err.Error(), good.Key)
	}
}

func nan() float64 {
	zero := 0.0
	return zero / zero
}

func TestHTTPDefaults(t *testing.T) {
	t.Parallel()
	h := HTTP{}.withDefaults()
	assert.Equal(t, HTTP{Cache: DefaultCache}, h)
	h = HTTP{JWT: HTTPJWT{Secret: "x"}}.withDefaults()
	assert.Equal(t, HTTPJWT{Secret: "x", RoleClaim: "role", NameClaim: "sub", Leeway: 30 * time.Second}, h.JWT)
	assert.EqualValues(t, DefaultRate, h.Rate)
	assert.EqualValues(t, -1, HTTP{JWT: HTTPJWT{Secret: "x"}, Rate: -1}.withDefaults().Rate)
}

func TestLoadConfigCredentials(t *testing.T) {
	t.Parallel()
	env := map[string]string{"DISPLAY_KEY": "a key of twenty letters", "JWT_SECRET": strings.Repeat("s", 32)}
	cfg, err := loadTest(map[string]string{"site.yaml": `
http:
  listen: 0.0.0.0:8443
  tls: {cert_file: tls/server.crt, key_file: /etc/server.key, client_ca_file: ca.pem}
  keys:
    - {name: display, role: viewer, key: "${DISPLAY_KEY}", from: [10.0.0.0/8], expires: 2027-12-31}
    - {name: scada, role: operator, hash: "` + testHash + `", expires: "2027-12-31T18:00:00Z"}
  jwt: {secret: "${JWT_SECRET}", issuer: idp, audience: plant, role_claim: groups, name_claim: email, leeway: 5s}
  trusted_proxies: [10.0.0.1]
  rate: 20
  open_probes: true
`}, env)
	require.NoError(t, err)
	assert.Equal(t, HTTP{
		Listen: "0.0.0.0:8443", TLS: HTTPTLS{CertFile: "tls/server.crt", KeyFile: "/etc/server.key", ClientCAFile: "ca.pem"},
		Keys: []APIKey{
			{Name: "display", Role: model.RoleViewer, Key: "a key of twenty letters", From: []string{"10.0.0.0/8"}, Expires: time.Date(2027, 12, 31, 0, 0, 0, 0, time.UTC)},
			{Name: "scada", Role: model.RoleOperator, Hash: testHash, Expires: time.Date(2027, 12, 31, 18, 0, 0, 0, time.UTC)},
		},
		JWT:            HTTPJWT{Secret: strings.Repeat("s", 32), Issuer: "idp", Audience: "plant", RoleClaim: "groups", NameClaim: "email", Leeway: 5 * time.Second},
		TrustedProxies: []string{"10.0.0.1"}, Rate: 20, OpenProbes: true,
	}, cfg.HTTP)

	for text, want := range map[string]string{
		"http: {listen: \":80\", insecure: true}":                                                 "site.yaml:1: http.listen: \":80\": without credentials",
		"http:\n  listen: \":80\"\n  keys: [{name: a, role: viewer, key: \"${DISPLAY_KEY}\"}]":    "site.yaml:2: http.listen: \":80\": credentials would cross",
		"http:\n  keys:\n    - {name: a, role: boss, key: \"${DISPLAY_KEY}\"}":                    "site.yaml:2: http.keys: key 1 (\"a\"): role \"boss\"",
		"http:\n  keys: [{name: a, role: viewer, key: \"${MISSING}\"}]":                           "site.yaml:2: http.keys[0].key: the environment variable MISSING is not set",
		"http:\n  keys: [{name: a, role: viewer, key: secret-text}]":                              "the key is too short",
		"http:\n  keys: [{name: a, role: viewer, key: secret-text-of-length, expires: tomorrow}]": "http.keys[0].expires: ",
		"http:\n  keys: []":                   "site.yaml:2: http.keys: empty",
		"http:\n  jwt: {}":                    "site.yaml:2: http.jwt: empty",
		"http:\n  jwt: {secret: secret-text}": "site.yaml:2: http.jwt: the secret is too short",
		"http:\n  rate: 0":                    "site.yaml:2: http.rate: 0: want requests a second",
		"http:\n  tls: {cert_file: x}":        "site.yaml:2: http.tls: want cert_file and key_file",
		"http:\n  trusted_proxies: [x]":       "site.yaml:2: http.trusted_proxies: \"x\"",
	} {
		_, err := loadTest(map[string]string{"site.yaml": text}, env)
		require.ErrorContains(t, err, want, text)
		for _, secret := range []string{"secret-text", "a key of twenty letters"} {
			assert.NotContains(t, err.Error(), secret)
		}
	}
}
