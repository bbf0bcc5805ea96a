package auth

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/voltageems/voltage/model"
)

var secret = []byte("0123456789abcdef0123456789abcdef")

// The keys of an issuer, made once as RSA takes its time.
var issuer = sync.OnceValue(func() (k struct {
	rsa   *rsa.PrivateKey
	ec    *ecdsa.PrivateKey
	ed    ed25519.PrivateKey
	other *rsa.PrivateKey
}) {
	k.rsa, _ = rsa.GenerateKey(rand.Reader, 2048)
	k.other, _ = rsa.GenerateKey(rand.Reader, 2048)
	k.ec, _ = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	_, k.ed, _ = ed25519.GenerateKey(rand.Reader)
	return k
})

func pemOf(t testing.TB, keys ...crypto.PublicKey) []byte {
	t.Helper()
	var all []byte
	for _, k := range keys {
		der, err := x509.MarshalPKIXPublicKey(k)
		require.NoError(t, err)
		all = append(all, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})...)
	}
	return all
}

func b64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

func setOf(t testing.TB) []byte {
	t.Helper()
	k := issuer()
	point, err := k.ec.PublicKey.Bytes()
	require.NoError(t, err)
	text, err := json.Marshal(map[string]any{"keys": []map[string]string{
		{"kty": "RSA", "kid": "r1", "use": "sig", "alg": "RS256", "n": b64(k.rsa.N.Bytes()), "e": "AQAB"},
		{"kty": "EC", "kid": "e1", "crv": "P-256", "x": b64(point[1:33]), "y": b64(point[33:])},
		{"kty": "OKP", "kid": "d1", "crv": "Ed25519", "x": b64(k.ed.Public().(ed25519.PublicKey))},
		{"kty": "oct", "kid": "s1", "k": b64(secret)}, {"kty": "RSA", "use": "enc", "n": "AA", "e": "AQAB"},
		{"kty": "EC", "crv": "P-521"}, {"kty": "RSA", "alg": "RS512", "n": b64(k.other.N.Bytes()), "e": "AQAB"},
	}})
	require.NoError(t, err)
	return text
}

func file(t testing.TB, data []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "keys")
	require.NoError(t, os.WriteFile(path, data, 0o600))
	return path
}

// claims are those of a good token, changed.
func claims(c *clock, changes ...any) jwt.MapClaims {
	m := jwt.MapClaims{"sub": "anna", "role": "operator", "iss": "idp", "aud": "plant", "exp": c.Now().Add(time.Hour).Unix()}
	for i := 0; i+1 < len(changes); i += 2 {
		if m[changes[i].(string)] = changes[i+1]; changes[i+1] == nil {
			delete(m, changes[i].(string))
		}
	}
	return m
}

func sign(t testing.TB, method jwt.SigningMethod, key any, c jwt.Claims, header ...any) string {
	t.Helper()
	token := jwt.NewWithClaims(method, c)
	for i := 0; i+1 < len(header); i += 2 {
		token.Header[header[i].(string)] = header[i+1]
	}
	text, err := token.SignedString(key)
	require.NoError(t, err)
	return text
}

func tokens(c *clock, j JWT) *Guard {
	j.Issuer, j.Audience, j.RoleClaim, j.NameClaim, j.Leeway = "idp", "plant", "role", "sub", 30*time.Second
	return New(Config{JWT: &j, Clock: c})
}

// attempt makes one request from an address of its own, so that failures do not add up.
func (g *Guard) attempt(token string) (Identity, error) {
	g.failed = NewLimiter(g.clock, 1, failedLogins)
	return g.who(request("192.0.2.1:1", "Authorization", "Bearer "+token))
}

func TestClaims(t *testing.T) {
	t.Parallel()
	c := newClock()
	g := tokens(c, JWT{Secret: secret})
	require.NoError(t, g.Load())
	id, err := g.attempt(sign(t, jwt.SigningMethodHS256, secret, claims(c)))
	require.NoError(t, err)
	assert.Equal(t, Identity{Name: "anna", Role: model.RoleOperator, Expires: c.Now().Add(time.Hour + 30*time.Second).Local()}, id)
	for _, tt := range []struct {
		changes []any
		want    string // "" for accepted
	}{
		{[]any{"role", "viewer admin"}, ""},
		{[]any{"role", []string{"x", "engineer"}}, ""},
		{[]any{"aud", []string{"x", "plant"}}, ""},
		{[]any{"exp", c.Now().Add(-29 * time.Second).Unix()}, ""},
		{[]any{"nbf", c.Now().Add(29 * time.Second).Unix()}, ""},
		{[]any{"exp", c.Now().Add(-31 * time.Second).Unix()}, "expired token of \"anna\""},
		{[]any{"exp", nil}, "exp"},
		{[]any{"exp", "soon"}, "exp"},
		{[]any{"nbf", c.Now().Add(31 * time.Second).Unix()}, "not valid yet"},
		{[]any{"iat", c.Now().Add(31 * time.Second).Unix()}, "used before issued"},
		{[]any{"iss", "evil"}, "issuer"},
		{[]any{"iss", nil}, "iss"},
		{[]any{"aud", "other"}, "audience"},
		{[]any{"aud", nil}, "aud"},
		{[]any{"role", "root"}, "no role"},
		{[]any{"role", nil}, "no role"},
		{[]any{"role", 7}, "no role"},
		{[]any{"sub", nil}, "plain text"},
		{[]any{"sub", "a\nb"}, "plain text"},
		{[]any{"sub", strings.Repeat("x", 65)}, "plain text"},
	} {
		_, err := g.attempt(sign(t, jwt.SigningMethodHS256, secret, claims(c, tt.changes...)))
		if tt.want == "" {
			require.NoError(t, err, tt.changes)
			continue
		}
		var refusal *Refusal
		require.ErrorAs(t, err, &refusal, tt.changes)
		assert.ErrorContains(t, err, tt.want)
	}
	for _, text := range []string{"a.b.c", "..", sign(t, jwt.SigningMethodHS256, secret, claims(c)) + "A",
		sign(t, jwt.SigningMethodHS256, []byte("another secret of 32 bytes......"), claims(c)),
		sign(t, jwt.SigningMethodHS256, secret, claims(c), "crit", []string{"x"})} {
		_, err := g.attempt(text)
		assert.IsType(t, &Refusal{}, err, text)
	}
}

// No token decides how it is verified: each algorithm has its own kind of key.
func TestAlgorithmsAreNotConfused(t *testing.T) {
	t.Parallel()
	c, k := newClock(), issuer()
	public := pemOf(t, &k.rsa.PublicKey, &k.ec.PublicKey, k.ed.Public())
	for name, path := range map[string]string{"PEM": file(t, public), "JWKS": file(t, setOf(t))} {
		g := tokens(c, JWT{KeyFile: path})
		require.NoError(t, g.Load())
		for _, text := range []string{
			sign(t, jwt.SigningMethodRS256, k.rsa, claims(c)), sign(t, jwt.SigningMethodES256, k.ec, claims(c)), sign(t, jwt.SigningMethodEdDSA, k.ed, claims(c)),
			sign(t, jwt.SigningMethodRS256, k.rsa, claims(c), "kid", "r1"),
		} {
			_, err := g.attempt(text)
			require.NoError(t, err, name)
		}
		for what, text := range map[string]string{
			"none":                      sign(t, jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, claims(c)),
			"public key as secret":      sign(t, jwt.SigningMethodHS256, public, claims(c)),
			"secret of the set":         sign(t, jwt.SigningMethodHS256, secret, claims(c), "kid", "s1"),
			"RS512":                     sign(t, jwt.SigningMethodRS512, k.rsa, claims(c)),
			"PS256":                     sign(t, jwt.SigningMethodPS256, k.rsa, claims(c)),
			"another issuer's key":      sign(t, jwt.SigningMethodRS256, k.other, claims(c)),
			"a key brought in the head": sign(t, jwt.SigningMethodRS256, k.other, claims(c), "jwk", map[string]string{"kty": "RSA", "n": b64(k.other.N.Bytes()), "e": "AQAB"}),
		} {
			_, err := g.attempt(text)
			assert.IsType(t, &Refusal{}, err, name+" "+what)
		}
	}
	_, err := tokens(c, JWT{KeyFile: file(t, setOf(t))}).attempt(sign(t, jwt.SigningMethodRS256, k.rsa, claims(c), "kid", "other"))
	require.Error(t, err)
	g := tokens(c, JWT{Secret: secret})
	for _, text := range []string{sign(t, jwt.SigningMethodRS256, k.rsa, claims(c)), sign(t, jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, claims(c)),
		sign(t, jwt.SigningMethodHS512, secret, claims(c))} {
		_, err := g.attempt(text)
		assert.IsType(t, &Refusal{}, err)
	}
}

func TestKeyFileIsReadAgain(t *testing.T) {
	t.Parallel()
	c, k := newClock(), issuer()
	path := file(t, pemOf(t, &k.rsa.PublicKey))
	g := tokens(c, JWT{KeyFile: path})
	before, after := sign(t, jwt.SigningMethodRS256, k.rsa, claims(c)), sign(t, jwt.SigningMethodRS256, k.other, claims(c))
	_, err := g.attempt(before)
	require.NoError(t, err)
	change := func(data []byte) {
		require.NoError(t, os.WriteFile(path, data, 0o600))
		require.NoError(t, os.Chtimes(path, c.Now(), c.Now()))
		c.move(lookEvery)
	}
	change([]byte("nonsense"))
	_, err = g.attempt(before)
	require.NoError(t, err, "a broken file leaves the keys in force")
	change(pemOf(t, &k.other.PublicKey))
	_, err = g.attempt(before)
	require.Error(t, err)
	_, err = g.attempt(after)
	require.NoError(t, err)
	assert.Error(t, tokens(c, JWT{KeyFile: path + "x"}).Load())
	_, err = tokens(c, JWT{KeyFile: path + "x"}).attempt(after)
	assert.IsType(t, &Refusal{}, err, "without keys nobody comes in")
}

func TestParseKeys(t *testing.T) {
	t.Parallel()
	weak, err := rsa.GenerateKey(rand.Reader, 1024)
	require.NoError(t, err)
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	require.NoError(t, err)
	private, err := x509.MarshalPKCS8PrivateKey(issuer().ed)
	require.NoError(t, err)
	for want, text := range map[string]string{
		"no public key":               "",
		"1024 bits":                   string(pemOf(t, &weak.PublicKey)),
		"not P-256":                   string(pemOf(t, &p384.PublicKey)),
		"want a PUBLIC KEY":           string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})),
		"JWK set":                     "{",
		"key 0: illegal base64":       `{"keys":[{"kty":"RSA","n":"!","e":"AQAB"}]}`,
		"key 0: coordinates":          `{"keys":[{"kty":"EC","crv":"P-256","x":"AA","y":"AA"}]}`,
		"key 0: an Ed25519 key":       `{"keys":[{"kty":"OKP","crv":"Ed25519","x":"AA"}]}`,
		"key 0: the RSA key is out":   `{"keys":[{"kty":"RSA","n":"AA","e":"AQ"}]}`,
		"key 0: an RSA key of 0 bits": `{"keys":[{"kty":"RSA","n":"AA","e":"AQAB"}]}`,
		"key 0: P256 point":           `{"keys":[{"kty":"EC","crv":"P-256","x":"` + b64(make([]byte, 32)) + `","y":"` + b64(big.NewInt(7).FillBytes(make([]byte, 32))) + `"}]}`,
	} {
		_, err := parseKeys([]byte(text))
		require.ErrorContains(t, err, want)
	}
	keys, err := parseKeys(setOf(t))
	require.NoError(t, err)
	assert.Len(t, keys, 3, "what cannot be used is left out")
}

func FuzzParseKeys(f *testing.F) {
	f.Add(setOf(f))
	f.Add(pemOf(f, issuer().ed.Public()))
	f.Fuzz(func(t *testing.T, data []byte) {
		keys, err := parseKeys(data)
		if err == nil {
			require.NotEmpty(t, keys)
		}
	})
}

func FuzzToken(f *testing.F) {
	c := newClock()
	g := tokens(c, JWT{Secret: secret})
	good := sign(f, jwt.SigningMethodHS256, secret, claims(c))
	f.Add(good)
	f.Add("a.b.c")
	f.Fuzz(func(t *testing.T, text string) {
		id, err := g.tokens.verify(text)
		if err == nil && text != good {
			t.Errorf("%q is accepted as %v", text, id)
		}
	})
}
