// Package auth finds out who asks over HTTP, and bounds how often.
//
// A [Guard] knows static API keys and verifies JSON Web Tokens (RFC 7519). It is
// told nothing about routes: what a role may do is the table of package api.
//
// Where a credential may stand: "Authorization: Bearer …" (RFC 6750), the header
// X-API-Key, or, because a browser sets no headers on a WebSocket, the subprotocol
// [Subprotocol] followed by the credential in base64url. It never stands in a URL,
// which ends up in logs and histories.
//
// Keys are compared by their SHA-256 digests, all of them each time and each in
// constant time. SHA-256 suffices as keys are random; it would not for passwords.
//
// A token's algorithm is decided by the key that verifies it: a secret verifies
// HS256 alone, an RSA key RS256 alone, a P-256 key ES256 alone, an Ed25519 key EdDSA
// alone. A token that says otherwise is refused, whatever its signature is.
package auth
