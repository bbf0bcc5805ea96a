package auth

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"os"

	"github.com/voltageems/voltage/model"
)

// Bounds of a file of public keys.
const (
	maxKeyFile = 1 << 20
	maxKeys    = 100
	minRSABits = 2048
)

// readKeys reads public keys: PEM blocks, or a JWK set (RFC 7517).
func readKeys(path string) ([]verifyKey, error) {
	data, err := readFile(path, maxKeyFile)
	if err != nil {
		return nil, err
	}
	keys, err := parseKeys(data)
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", model.ErrInvalid, path, err)
	}
	return keys, nil
}

func readFile(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // it was only read
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(data)) > limit {
		err = fmt.Errorf("%w: %s: larger than %d bytes", model.ErrInvalid, path, limit)
	}
	return data, err
}

func parseKeys(data []byte) ([]verifyKey, error) {
	parse := parsePEM
	if data = bytes.TrimSpace(data); bytes.HasPrefix(data, []byte("{")) {
		parse = parseSet
	}
	keys, err := parse(data)
	switch {
	case err != nil:
		return nil, err
	case len(keys) == 0:
		return nil, errors.New("no public key: want PEM or a JWK set")
	case len(keys) > maxKeys:
		return nil, fmt.Errorf("%d keys: at most %d", len(keys), maxKeys)
	}
	return keys, nil
}

func parsePEM(data []byte) (keys []verifyKey, err error) {
	for len(data) > 0 {
		block, rest := pem.Decode(data)
		if block == nil {
			break
		}
		data = rest
		var key crypto.PublicKey
		switch block.Type {
		case "PUBLIC KEY":
			key, err = x509.ParsePKIXPublicKey(block.Bytes)
		case "RSA PUBLIC KEY":
			key, err = x509.ParsePKCS1PublicKey(block.Bytes)
		case "CERTIFICATE":
			var cert *x509.Certificate
			if cert, err = x509.ParseCertificate(block.Bytes); err == nil {
				key = cert.PublicKey
			}
		default:
			err = errors.New("want a PUBLIC KEY or a CERTIFICATE")
		}
		if err != nil {
			return nil, fmt.Errorf("PEM block %.40q: %w", block.Type, err)
		}
		k, err := newVerifyKey("", key)
		if err != nil {
			return nil, fmt.Errorf("PEM block %.40q: %w", block.Type, err)
		}
		keys = append(keys, k)
	}
	return keys, nil
}

// newVerifyKey finds the one algorithm of a key.
func newVerifyKey(id string, key crypto.PublicKey) (verifyKey, error) {
	switch k := key.(type) {
	case *rsa.PublicKey:
		if k.N.BitLen() < minRSABits {
			return verifyKey{}, fmt.Errorf("an RSA key of %d bits: want at least %d", k.N.BitLen(), minRSABits)
		}
		return verifyKey{id, "RS256", k}, nil
	case *ecdsa.PublicKey:
		if k.Curve != elliptic.P256() {
			return verifyKey{}, errors.New("an elliptic curve that is not P-256")
		}
		return verifyKey{id, "ES256", k}, nil
	case ed25519.PublicKey:
		return verifyKey{id, "EdDSA", k}, nil
	}
	return verifyKey{}, fmt.Errorf("a %T: want RSA, P-256 or Ed25519", key)
}

// jwk is a key of a set, as RFC 7518 and RFC 8037 write it.
type jwk struct {
	Kty string `json:"kty"`
	Kid string `json:"kid"`
	Use string `json:"use"`
	Alg string `json:"alg"`
	Crv string `json:"crv"`
	N   string `json:"n"`
	E   string `json:"e"`
	X   string `json:"x"`
	Y   string `json:"y"`
}

// parseSet reads a JWK set. Keys for encryption, of other kinds and for other
// algorithms are left out, as issuers publish them beside the others; what claims
// to be usable and is not is an error.
func parseSet(data []byte) ([]verifyKey, error) {
	var set struct {
		Keys []jwk `json:"keys"`
	}
	if err := json.Unmarshal(data, &set); err != nil {
		return nil, fmt.Errorf("JWK set: %w", err)
	}
	var keys []verifyKey
	for i, k := range set.Keys {
		if k.Use != "" && k.Use != "sig" {
			continue
		}
		public, alg, err := k.public()
		if err == nil && public != nil && (k.Alg == "" || k.Alg == alg || alg == "EdDSA" && k.Alg == "Ed25519") {
			var key verifyKey
			if key, err = newVerifyKey(k.Kid, public); err == nil {
				keys = append(keys, key)
			}
		}
		if err != nil {
			return nil, fmt.Errorf("JWK set: key %d: %w", i, err)
		}
	}
	return keys, nil
}

// public returns the key, nil for one of a kind that is not used here.
func (k jwk) public() (crypto.PublicKey, string, error) {
	switch {
	case k.Kty == "RSA":
		n, errN := base64.RawURLEncoding.DecodeString(k.N)
		e, errE := base64.RawURLEncoding.DecodeString(k.E)
		if err := errors.Join(errN, errE); err != nil {
			return nil, "", err
		}
		exponent := new(big.Int).SetBytes(e)
		if exponent.BitLen() > 31 || exponent.Int64() < 3 || exponent.Bit(0) == 0 || len(n) > 1024 {
			return nil, "", errors.New("the RSA key is out of range")
		}
		return &rsa.PublicKey{N: new(big.Int).SetBytes(n), E: int(exponent.Int64())}, "RS256", nil
	case k.Kty == "EC" && k.Crv == "P-256":
		x, errX := base64.RawURLEncoding.DecodeString(k.X)
		y, errY := base64.RawURLEncoding.DecodeString(k.Y)
		if err := errors.Join(errX, errY); err != nil {
			return nil, "", err
		}
		if len(x) != 32 || len(y) != 32 {
			return nil, "", errors.New("coordinates of P-256 have 32 bytes")
		}
		key, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), append(append([]byte{4}, x...), y...))
		return key, "ES256", err
	case k.Kty == "OKP" && k.Crv == "Ed25519":
		x, err := base64.RawURLEncoding.DecodeString(k.X)
		if err == nil && len(x) != ed25519.PublicKeySize {
			err = errors.New("an Ed25519 key has 32 bytes")
		}
		return ed25519.PublicKey(x), "EdDSA", err
	}
	return nil, "", nil
}
