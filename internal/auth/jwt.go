package auth

import (
	"crypto"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/voltageems/voltage/model"
)

// JWT says which tokens are accepted.
type JWT struct {
	// Secret verifies HS256. Either it or KeyFile is given.
	Secret []byte
	// KeyFile has public keys, as PEM or as a JWK set, for RS256, ES256 and EdDSA.
	// It is read again when it changes.
	KeyFile string
	// Issuer and Audience must be those of the token where they are not empty.
	Issuer, Audience string
	// RoleClaim and NameClaim are where the role and the name stand.
	RoleClaim, NameClaim string
	// Leeway is how far clocks may differ.
	Leeway time.Duration
}

// verifier verifies tokens.
type verifier struct {
	config JWT
	parser *jwt.Parser
	file   watched

	mu   sync.Mutex
	keys []verifyKey
	err  error // of the last reading
}

// verifyKey verifies one algorithm and no other.
type verifyKey struct {
	id, alg string
	key     crypto.PublicKey
}

func newVerifier(c JWT, clock model.Clock) *verifier {
	v := &verifier{config: c, file: watched{path: c.KeyFile, clock: clock}}
	methods := []string{"RS256", "ES256", "EdDSA"}
	if c.KeyFile == "" {
		methods = []string{"HS256"}
		v.keys = []verifyKey{{alg: "HS256", key: c.Secret}}
	}
	options := []jwt.ParserOption{jwt.WithValidMethods(methods), jwt.WithExpirationRequired(), jwt.WithIssuedAt(),
		jwt.WithLeeway(c.Leeway), jwt.WithTimeFunc(clock.Now), jwt.WithStrictDecoding()}
	if c.Issuer != "" {
		options = append(options, jwt.WithIssuer(c.Issuer))
	}
	if c.Audience != "" {
		options = append(options, jwt.WithAudience(c.Audience))
	}
	v.parser = jwt.NewParser(options...)
	return v
}

// current returns the keys, read anew when the file changed. A file that became
// unusable leaves the keys before in force.
func (v *verifier) current() ([]verifyKey, error) {
	if v.config.KeyFile == "" {
		return v.keys, nil
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.file.changed() {
		keys, err := readKeys(v.config.KeyFile)
		if err == nil {
			v.keys = keys
		} else {
			v.file.again()
		}
		v.err = err
	}
	if len(v.keys) == 0 {
		return nil, v.err
	}
	return v.keys, nil
}

func (v *verifier) verify(text string) (Identity, error) {
	claims := jwt.MapClaims{}
	_, err := v.parser.ParseWithClaims(text, claims, v.keyFor)
	if errors.Is(err, jwt.ErrTokenExpired) { // told only after the signature was found right
		return Identity{}, &Refusal{"the token has expired", fmt.Sprintf("expired token of %.64q", claims[v.config.NameClaim])}
	}
	if err != nil {
		return Identity{}, &Refusal{notAccepted, fmt.Sprintf("token: %.200s", err)}
	}
	name, _ := claims[v.config.NameClaim].(string)
	if name == "" || !model.PlainText(name, 64) {
		return Identity{}, &Refusal{"the token has no usable name",
			fmt.Sprintf("token: claim %q: want plain text of 1 to 64 bytes", v.config.NameClaim)}
	}
	role := roleOf(claims[v.config.RoleClaim])
	if role == "" {
		return Identity{}, &Refusal{"the token has no role here",
			fmt.Sprintf("token of %s: claim %q has no role that is known", name, v.config.RoleClaim)}
	}
	expires, err := claims.GetExpirationTime()
	if err != nil {
		return Identity{}, &Refusal{notAccepted, "token: " + err.Error()}
	}
	return Identity{Name: name, Role: role, Expires: expires.Add(v.config.Leeway)}, nil
}

// roleOf returns the highest role of a claim, which is one name, several with
// spaces between, or a list.
func roleOf(claim any) model.Role {
	var names []string
	switch claim := claim.(type) {
	case string:
		names = strings.Fields(claim)
	case []any:
		for _, item := range claim {
			if s, ok := item.(string); ok {
				names = append(names, s)
			}
		}
	}
	for _, role := range slices.Backward(model.Roles()) {
		if slices.Contains(names, string(role)) {
			return role
		}
	}
	return ""
}

// keyFor returns the keys that may verify a token: those of its algorithm, and of
// its key id where both have one.
func (v *verifier) keyFor(t *jwt.Token) (any, error) {
	if _, ok := t.Header["crit"]; ok { // RFC 7515, 4.1.11: none is understood here
		return nil, errors.New("the header has crit")
	}
	keys, err := v.current()
	if err != nil {
		return nil, err
	}
	id, _ := t.Header["kid"].(string)
	var set jwt.VerificationKeySet
	for _, k := range keys {
		if k.alg == t.Method.Alg() && (k.id == "" || id == "" || k.id == id) {
			set.Keys = append(set.Keys, k.key)
		}
	}
	if len(set.Keys) == 0 {
		return nil, fmt.Errorf("no key for %s and key id %.64q", t.Method.Alg(), id)
	}
	return set, nil
}
