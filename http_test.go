package voltage_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/voltageems/voltage"
	"github.com/voltageems/voltage/model"
	"github.com/voltageems/voltage/scripts"
	"github.com/voltageems/voltage/scripts/storetest"
)

// serverCertificate writes a certificate for 127.0.0.1 and returns who trusts it.
func serverCertificate(t *testing.T) (files voltage.HTTPTLS, trust *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	require.NoError(t, err)
	text, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(t, err)
	dir := t.TempDir()
	files = voltage.HTTPTLS{CertFile: filepath.Join(dir, "crt"), KeyFile: filepath.Join(dir, "key")}
	certificate := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	require.NoError(t, os.WriteFile(files.CertFile, certificate, 0o600))
	require.NoError(t, os.WriteFile(files.KeyFile, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: text}), 0o600))
	trust = x509.NewCertPool()
	require.True(t, trust.AppendCertsFromPEM(certificate))
	return files, trust
}

// An engine with TLS and keys serves who has one, over TLS alone, and keeps account.
func TestServerWithCredentials(t *testing.T) {
	t.Parallel()
	files, trust := serverCertificate(t)
	const viewer, admin = "the key of the dashboard", "the key of the administrator"
	eng, err := voltage.NewEngine(voltage.Config{Site: storetest.Site(t), Store: scripts.StoreConfig{Embedded: true}, Log: testLog(t),
		HTTP: voltage.HTTP{Listen: "127.0.0.1:0", TLS: files, Keys: []voltage.APIKey{
			{Name: "dashboard", Role: model.RoleViewer, Key: viewer}, {Name: "boss", Role: model.RoleAdmin, Key: admin}}}})
	require.NoError(t, err)
	require.NoError(t, eng.Start(t.Context()))
	t.Cleanup(func() { require.NoError(t, eng.Stop(context.Background())) })
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: trust}}}
	defer client.CloseIdleConnections()
	ask := func(key, method, path string) (int, string) {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), method, "https://"+eng.Addr()+path, nil)
		require.NoError(t, err)
		if key != "" {
			r.Header.Set("Authorization", "Bearer "+key)
		}
		res, err := client.Do(r)
		require.NoError(t, err)
		body, err := io.ReadAll(res.Body)
		require.NoError(t, err)
		require.NoError(t, res.Body.Close())
		return res.StatusCode, string(body)
	}
	status, _ := ask("", "GET", "/models")
	require.Equal(t, 401, status)
	status, _ = ask(viewer+"x", "GET", "/models")
	require.Equal(t, 401, status)
	status, _ = ask(viewer, "GET", "/models")
	require.Equal(t, 200, status)
	status, _ = ask(viewer, "POST", "/alarms/1/ack")
	require.Equal(t, 403, status)
	status, _ = ask(admin, "POST", "/alarms/1/ack")
	require.Equal(t, 404, status)
	eventually(t, "the audit journal has it all", func() bool {
		status, body := ask(admin, "GET", "/audit")
		return status == 200 && strings.Contains(body, `"who":"dashboard"`) && strings.Contains(body, `"who":"boss"`) &&
			strings.Contains(body, `"result":"denied","status":403`) && strings.Contains(body, `"result":"failed","status":404`)
	})
	res, err := http.Get("http://" + eng.Addr() + "/models")
	require.NoError(t, err)
	require.NoError(t, res.Body.Close())
	require.Equal(t, 400, res.StatusCode, "net/http says so to plain HTTP where TLS is served")
}

// Without credentials the handler serves this machine, and whom the caller vouches for.
func TestHandlerWithUser(t *testing.T) {
	t.Parallel()
	eng, err := voltage.NewEngine(voltage.Config{Log: testLog(t)})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, eng.Stop(context.Background())) })
	ask := func(r *http.Request) *httptest.ResponseRecorder {
		w := httptest.NewRecorder()
		eng.Handler().ServeHTTP(w, r)
		return w
	}
	r := httptest.NewRequest("GET", "http://localhost/session", nil)
	r.RemoteAddr = "192.0.2.1:5"
	require.Equal(t, 403, ask(r).Code)
	w := ask(voltage.WithUser(r, "anna", model.RoleViewer))
	require.Equal(t, 200, w.Code)
	require.Contains(t, w.Body.String(), `"name":"anna","role":"viewer"`)
	r = httptest.NewRequest("POST", "http://localhost/alarms/1/ack", nil)
	require.Equal(t, 403, ask(voltage.WithUser(r, "anna", model.RoleViewer)).Code)
}

func TestStartRefusesBadFiles(t *testing.T) {
	t.Parallel()
	missing := filepath.Join(t.TempDir(), "missing")
	for want, h := range map[string]voltage.HTTP{
		"http: tls: ": {TLS: voltage.HTTPTLS{CertFile: missing, KeyFile: missing}},
		"http: jwt: ": {JWT: voltage.HTTPJWT{KeyFile: missing, Issuer: "i", Audience: "a"}},
	} {
		h.Listen = "127.0.0.1:0"
		eng, err := voltage.NewEngine(voltage.Config{Store: scripts.StoreConfig{Embedded: true}, Log: testLog(t), HTTP: h})
		require.NoError(t, err)
		require.ErrorContains(t, eng.Start(t.Context()), want)
	}
}

// Several commands at once on real devices, values of several models, and a model that
// is taken out of operation.
func TestBulkAndEnable(t *testing.T) {
	t.Parallel()
	p := startPlant(t, scripts.StoreConfig{Embedded: true})
	eventually(t, "all is good", func() bool { return p.allGood(t) })
	call := func(method, path, body string) (int, string) {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), method, "http://"+p.Addr()+path, strings.NewReader(body))
		require.NoError(t, err)
		r.Header.Set("Content-Type", "application/json")
		res, err := http.DefaultClient.Do(r)
		require.NoError(t, err)
		text, err := io.ReadAll(res.Body)
		require.NoError(t, err)
		require.NoError(t, res.Body.Close())
		return res.StatusCode, string(text)
	}
	const two = `{"commands":[{"model":"pcs1","control":"power_setpoint","value":30},{"model":"pcs1","control":"power_setpoint","value":9999}]}`
	status, body := call("POST", "/control", two)
	require.Equal(t, 207, status, body)
	require.Contains(t, body, `{"results":[{"status":200,"command":{`)
	require.Contains(t, body, `"state":"verified"`)
	require.Contains(t, body, `{"status":422,"problem":{`)
	entries, err := p.Plane().CommandJournal(t.Context(), "", 100)
	require.NoError(t, err)
	executed := 0
	for _, e := range entries {
		if e.State == model.CommandExecuting {
			executed++
		}
	}
	require.Equal(t, 1, executed, "what is waited for is not given again")

	status, body = call("GET", "/values?models=pcs1,meter1,none", "")
	require.Equal(t, 200, status, body)
	require.Contains(t, body, `"missing":["none"]`)
	require.Contains(t, body, `"meter1":{`)

	status, body = call("PUT", "/models/pcs1/enabled", `{"enabled":false,"reason":"service"}`)
	require.Equal(t, 200, status, body)
	status, body = call("POST", "/models/pcs1/control/power_setpoint", `{"value":10}`)
	require.Equal(t, 422, status, body)
	require.Contains(t, body, "disabled")
	require.NoError(t, p.SetModelEnabled(t.Context(), "pcs1", true))
	status, body = call("POST", "/models/pcs1/control/power_setpoint", `{"value":10}`)
	require.Equal(t, 200, status, body)
	status, body = call("PUT", "/models/none/enabled", `{"enabled":true}`)
	require.Equal(t, 404, status, body)
	// A model of another engine of the site.
	require.NoError(t, p.Plane().PutModel(t.Context(), model.Instance{ID: "other", Measurements: map[string]string{"x": "77:1"}}))
	require.NoError(t, p.Plane().Reload(t.Context()))
	status, body = call("PUT", "/models/other/enabled", `{"enabled":false}`)
	require.Equal(t, 200, status, body)
	require.Contains(t, body, `"enabled":false`)
	models, err := p.Models(t.Context())
	require.NoError(t, err)
	for _, m := range models {
		if m.ID == "other" {
			require.True(t, m.Disabled)
		}
	}
	http.DefaultClient.CloseIdleConnections()
}
