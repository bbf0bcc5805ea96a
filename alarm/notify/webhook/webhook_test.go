package webhook_test

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/voltageems/voltage/alarm/notify"
	"github.com/voltageems/voltage/alarm/notify/webhook"
	"github.com/voltageems/voltage/channel"
	"github.com/voltageems/voltage/internal/testcert"
	"github.com/voltageems/voltage/model"
)

func open(t *testing.T, c webhook.Config) notify.Sender {
	t.Helper()
	s, err := webhook.New(c)(notify.Setup{ID: "hook", Log: slog.New(slog.DiscardHandler), Clock: model.SystemClock})
	require.NoError(t, err)
	return s
}

// serve starts a server whose answers are those of f.
func serve(t *testing.T, f http.HandlerFunc) *httptest.Server {
	t.Helper()
	s := httptest.NewServer(f)
	t.Cleanup(s.Close)
	return s
}

func TestWebhookPosts(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var body []byte
	var header http.Header
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		b, err := io.ReadAll(r.Body)
		if err != nil || r.Method != http.MethodPost {
			w.WriteHeader(http.StatusTeapot)
		}
		mu.Lock()
		defer mu.Unlock()
		body, header = b, r.Header.Clone()
		w.WriteHeader(http.StatusNoContent)
	})
	m := notify.Samples()[0]
	require.NoError(t, open(t, webhook.Config{URL: s.URL + "/a?b=c", Secret: "s3cret", Headers: map[string]string{"Authorization": "Bearer x"}}).Send(t.Context(), m))
	mu.Lock()
	defer mu.Unlock()
	require.Equal(t, "Bearer x", header.Get("Authorization"))
	require.Equal(t, m.ID, header.Get(webhook.HeaderID))
	var got notify.Message
	require.NoError(t, json.Unmarshal(body, &got))
	require.Equal(t, m, got)
	signature := header.Get(webhook.HeaderSignature)
	require.NoError(t, webhook.Verify("s3cret", signature, body, time.Now(), time.Minute))
	for what, err := range map[string]error{
		"another secret": webhook.Verify("other", signature, body, time.Now(), time.Minute),
		"another body":   webhook.Verify("s3cret", signature, append(body, ' '), time.Now(), time.Minute),
		"too old":        webhook.Verify("s3cret", signature, body, time.Now().Add(time.Hour), time.Minute),
		"nothing":        webhook.Verify("s3cret", "", body, time.Now(), time.Minute),
		"no time":        webhook.Verify("s3cret", "v1=00", body, time.Now(), time.Minute),
	} {
		require.ErrorIs(t, err, webhook.ErrSignature, what)
	}
}

// What a server repeats of a request is in no error: those are shown to whoever may
// read, and logged.
func TestWebhookHidesSecrets(t *testing.T) {
	t.Parallel()
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusBadRequest)
		_, _ = io.WriteString(w, "what is "+r.URL.String()+" "+r.Header.Get("Authorization")+" "+r.Header.Get("X-Key")+" ?")
	})
	err := open(t, webhook.Config{URL: strings.Replace(s.URL, "://", "://me:s3cret-password@", 1) + "/services/s3cret-path-of-a-channel?token=s3cret-query",
		Headers: map[string]string{"X-Key": "Token s3cret-header"}}).Send(t.Context(), notify.Samples()[0])
	require.ErrorContains(t, err, "what is /services/***?*** Basic *** *** ?")
	require.NotContains(t, err.Error(), "s3cret")
}

func TestWebhookStatuses(t *testing.T) {
	t.Parallel()
	for status, permanent := range map[int]bool{201: false, 301: false, 302: false, 400: true, 401: true, 404: true, 408: false, 410: true, 425: false, 429: false, 500: false, 503: false} {
		s := serve(t, func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(status)
			_, _ = io.WriteString(w, strings.Repeat("why ", 10_000))
		})
		err := open(t, webhook.Config{URL: s.URL}).Send(t.Context(), notify.Samples()[0])
		if status < 300 {
			require.NoError(t, err)
			continue
		}
		require.Error(t, err, status)
		require.Less(t, len(err.Error()), 500)
		require.Equal(t, permanent, errors.Is(err, notify.ErrPermanent), "%d: %v", status, err)
	}
}

func TestWebhookRedirects(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	reached := map[string]int{}
	note := func(what string) {
		mu.Lock()
		defer mu.Unlock()
		reached[what]++
	}
	other := serve(t, func(http.ResponseWriter, *http.Request) { note("other") })
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/same":
			http.Redirect(w, r, "/here", http.StatusPermanentRedirect)
		case "/other":
			http.Redirect(w, r, other.URL, http.StatusTemporaryRedirect)
		case "/get":
			http.Redirect(w, r, "/here", http.StatusFound)
		case "/loop":
			note("loop")
			http.Redirect(w, r, "/loop", http.StatusTemporaryRedirect)
		case "/here":
			b, _ := io.ReadAll(r.Body)
			if len(b) > 0 && r.Method == http.MethodPost {
				note("here")
			}
		}
	})
	m := notify.Samples()[0]
	require.NoError(t, open(t, webhook.Config{URL: s.URL + "/same"}).Send(t.Context(), m))
	for _, path := range []string{"/other", "/get", "/loop"} {
		err := open(t, webhook.Config{URL: s.URL + path}).Send(t.Context(), m)
		require.Error(t, err, path)
		require.NotErrorIs(t, err, notify.ErrPermanent)
	}
	mu.Lock()
	defer mu.Unlock()
	require.Equal(t, map[string]int{"here": 1, "loop": 4}, reached)
}

func TestWebhookTLSAndTime(t *testing.T) {
	t.Parallel()
	ca := testcert.NewCA(t)
	cert := ca.Issue(t, testcert.Spec{Hosts: []string{"127.0.0.1"}})
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	s.TLS = &tls.Config{Certificates: []tls.Certificate{cert.Certificate}}
	s.StartTLS()
	t.Cleanup(s.Close)
	m := notify.Samples()[0]
	require.NoError(t, open(t, webhook.Config{URL: s.URL, TLS: notify.TLS{CAFile: channel.Path(ca.File)}}).Send(t.Context(), m))
	require.ErrorContains(t, open(t, webhook.Config{URL: s.URL + "/token-in-the-path"}).Send(t.Context(), m), "certificate")

	hang := make(chan struct{})
	slow := serve(t, func(http.ResponseWriter, *http.Request) { <-hang })
	defer close(hang)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- open(t, webhook.Config{URL: slow.URL + "/token"}).Send(ctx, m)
	}()
	cancel()
	err := <-done
	require.ErrorIs(t, err, context.Canceled)
	require.NotContains(t, err.Error(), "token", "a URL may hold a secret")
}

func TestWebhookSettings(t *testing.T) {
	t.Parallel()
	for want, c := range map[string]webhook.Config{
		"url: want http": {}, "url: want": {URL: "ftp://a"}, "url: it cannot": {URL: "http://a b%zz"}, "headers: \"a b\"": {URL: "http://a", Headers: map[string]string{"a b": "c"}},
		"headers: \"a\"": {URL: "http://a", Headers: map[string]string{"a": "b\nc"}}, "tls: the url": {URL: "http://a", TLS: notify.TLS{ServerName: "x"}},
		"ca_file: open": {URL: "https://a", TLS: notify.TLS{CAFile: "/nowhere"}}, "cert_file and key_file": {URL: "https://a", TLS: notify.TLS{KeyFile: "x"}},
	} {
		_, err := webhook.New(c)(notify.Setup{})
		require.ErrorIs(t, err, model.ErrInvalid, want)
		require.ErrorContains(t, err, want)
	}
}
