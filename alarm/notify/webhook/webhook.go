// Package webhook sends notifications as JSON by HTTP POST, signed where a secret
// is given.
package webhook

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/voltageems/voltage/alarm/notify"
	"github.com/voltageems/voltage/model"
)

// The headers of a request.
const (
	// HeaderSignature is "t=<Unix seconds>,v1=<hex of HMAC-SHA256 of the time, a dot
	// and the body>"; see Verify.
	HeaderSignature = "Voltage-Signature"
	// HeaderID is the message's ID, the same when it is delivered again.
	HeaderID = "Voltage-Id"
)

const (
	maxAnswer    = 1 << 10 // of an answer, for the error
	maxRedirects = 3
)

// Config says where to send.
type Config struct {
	// URL is where messages are posted to: https://…, or http://… Required.
	URL string
	// Secret signs the requests. Empty means that they are not signed.
	Secret string
	// Headers are sent along, such as Authorization.
	Headers map[string]string
	// TLS is for https.
	TLS notify.TLS
}

// New returns the Factory of a webhook. A status of 200 to 299 means that it took
// the message; 408, 425, 429, 3xx and 5xx that it may take it later, after what
// Retry-After says; any other one that it never will. Redirects are followed on
// the same host alone, and only those that keep the method (307, 308).
func New(c Config) notify.Factory {
	return func(s notify.Setup) (notify.Sender, error) {
		u, err := url.Parse(c.URL)
		if err != nil { // its text has the URL, which may hold a secret
			return nil, fmt.Errorf("%w: url: it cannot be read as a URL", model.ErrInvalid)
		}
		if u.Scheme != "https" && u.Scheme != "http" || u.Host == "" {
			return nil, fmt.Errorf("%w: url: want http://… or https://…", model.ErrInvalid)
		}
		for name, value := range c.Headers {
			if !headerName(name) || strings.ContainsFunc(value, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }) {
				return nil, fmt.Errorf("%w: headers: %.40q is no header, or its value has more than one line or control characters", model.ErrInvalid, name)
			}
		}
		if c.TLS != (notify.TLS{}) && u.Scheme != "https" {
			return nil, fmt.Errorf("%w: tls: the url is not https", model.ErrInvalid)
		}
		if _, err := c.TLS.Config(u.Hostname()); err != nil {
			return nil, err
		}
		return &sender{Config: c, url: u, clock: s.Clock, headers: slices.Sorted(maps.Keys(c.Headers)), hide: hider(c, u)}, nil
	}
}

func headerName(s string) bool {
	for _, r := range s {
		if r <= ' ' || r >= 0x7f || strings.ContainsRune(`()<>@,;:\"/[]?={}`, r) {
			return false
		}
	}
	return s != ""
}

type sender struct {
	Config
	url     *url.URL
	clock   model.Clock
	headers []string
	hide    *strings.Replacer
}

// hider takes what may be secret out of what a server answers: some say in their
// errors what they were sent. Short texts are no secrets, nor are words of a path.
func hider(c Config, u *url.URL) *strings.Replacer {
	var secrets []string
	add := func(texts ...string) {
		for _, s := range texts {
			if len(s) >= 6 {
				secrets = append(secrets, s)
			}
		}
	}
	add(c.Secret, u.RawQuery)
	for _, values := range u.Query() {
		add(values...)
	}
	for _, part := range strings.Split(u.Path, "/") {
		if len(part) >= 16 {
			add(part)
		}
	}
	if password, ok := u.User.Password(); ok {
		add(password, base64.StdEncoding.EncodeToString([]byte(u.User.Username()+":"+password)))
	}
	for _, value := range c.Headers {
		add(value)
		add(strings.Fields(value)...) // Bearer …
	}
	slices.SortFunc(secrets, func(a, b string) int { return len(b) - len(a) }) // the whole before its parts
	var pairs []string
	for _, s := range secrets {
		pairs = append(pairs, s, "***")
	}
	return strings.NewReplacer(pairs...)
}

// Send implements notify.Sender.
func (s *sender) Send(ctx context.Context, m notify.Message) error {
	body, err := json.Marshal(m)
	if err != nil {
		return notify.Permanent(err)
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, s.url.String(), bytes.NewReader(body))
	if err != nil {
		return notify.Permanent(errors.New("making the request failed"))
	}
	r.Header.Set("Content-Type", "application/json; charset=utf-8")
	r.Header.Set("User-Agent", "voltage")
	r.Header.Set(HeaderID, m.ID)
	for _, name := range s.headers {
		if strings.EqualFold(name, "host") {
			r.Host = s.Headers[name]
			continue
		}
		r.Header.Set(name, s.Headers[name])
	}
	if s.Secret != "" {
		r.Header.Set(HeaderSignature, Sign(s.Secret, s.clock.Now(), body))
	}
	client, end, err := s.client()
	if err != nil {
		return err
	}
	defer end()
	answer, err := client.Do(r)
	if err != nil {
		var u *url.Error // its text has the whole URL, which may hold a secret
		if errors.As(err, &u) {
			err = u.Err
		}
		return fmt.Errorf("%s: %w", s.url.Host, err)
	}
	defer func() { _ = answer.Body.Close() }()                    // what counts was read
	text, _ := io.ReadAll(io.LimitReader(answer.Body, maxAnswer)) // more than is shown, so that no part of a secret is at the end
	if answer.StatusCode >= 200 && answer.StatusCode <= 299 {
		return nil
	}
	err = fmt.Errorf("%s answered %s: %.200q", s.url.Host, s.hide.Replace(answer.Status), strings.TrimSpace(s.hide.Replace(string(text))))
	switch answer.StatusCode {
	case http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests:
	default:
		if answer.StatusCode >= 400 && answer.StatusCode <= 499 {
			return notify.Permanent(err)
		}
	}
	if after := s.retryAfter(answer.Header.Get("Retry-After")); after > 0 {
		return notify.RetryAfter(err, after)
	}
	return err
}

// client returns a client for one request, and what closes its connection.
func (s *sender) client() (*http.Client, func(), error) {
	tls, err := s.TLS.Config(s.url.Hostname())
	if err != nil {
		return nil, nil, err
	}
	t := &http.Transport{Proxy: http.ProxyFromEnvironment, TLSClientConfig: tls, ForceAttemptHTTP2: true, MaxResponseHeaderBytes: 64 << 10}
	return &http.Client{Transport: t, CheckRedirect: func(r *http.Request, via []*http.Request) error {
		if len(via) > maxRedirects || r.Method != http.MethodPost || r.URL.Host != s.url.Host || r.URL.Scheme != s.url.Scheme {
			return http.ErrUseLastResponse
		}
		return nil
	}}, t.CloseIdleConnections, nil
}

// retryAfter reads the header: seconds, or a time.
func (s *sender) retryAfter(text string) time.Duration {
	if n, err := strconv.ParseUint(text, 10, 31); err == nil {
		return time.Duration(n) * time.Second
	}
	if at, err := http.ParseTime(text); err == nil {
		return at.Sub(s.clock.Now())
	}
	return 0
}

// Sign returns the value of HeaderSignature.
func Sign(secret string, now time.Time, body []byte) string {
	at := strconv.FormatInt(now.Unix(), 10)
	return "t=" + at + ",v1=" + hex.EncodeToString(digest(secret, at, body))
}

func digest(secret, at string, body []byte) []byte {
	h := hmac.New(sha256.New, []byte(secret))
	h.Write([]byte(at + "."))
	h.Write(body)
	return h.Sum(nil)
}

// ErrSignature: a request is not signed with the secret, or too long ago.
var ErrSignature = errors.New("the signature is not valid")

// Verify checks HeaderSignature of a request, for receivers in Go. age is how far
// the time may be from now, which keeps others from sending an old one again;
// 5 minutes are usual.
func Verify(secret, header string, body []byte, now time.Time, age time.Duration) error {
	first, rest, ok := strings.Cut(header, ",v1=")
	at, marked := strings.CutPrefix(first, "t=")
	seconds, err := strconv.ParseInt(at, 10, 64)
	given, bad := hex.DecodeString(rest)
	if !ok || !marked || err != nil || bad != nil || !hmac.Equal(given, digest(secret, at, body)) {
		return ErrSignature
	}
	if d := now.Sub(time.Unix(seconds, 0)).Abs(); d > age {
		return fmt.Errorf("%w: it is from %s ago", ErrSignature, d)
	}
	return nil
}

// Kind returns the webhook for configuration files: "sender: webhook".
func Kind() notify.Kind {
	return notify.Kind{Name: "webhook", Open: func(decode func(any) error) (notify.Factory, error) {
		var c struct {
			URL     string            `yaml:"url"`
			Secret  string            `yaml:"secret"`
			Headers map[string]string `yaml:"headers"`
			TLS     notify.TLS        `yaml:"tls"`
		}
		if err := decode(&c); err != nil {
			return nil, err
		}
		return New(Config(c)), nil
	}}
}
