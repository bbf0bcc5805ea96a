package api

import (
	"bufio"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/voltageems/voltage/model"
)

// browser drives one tab of a Chromium over its DevTools protocol.
type browser struct {
	t      *testing.T
	ctx    context.Context
	conn   *websocket.Conn
	id     int
	errors []string // what the page logged as errors
}

// startBrowser skips the test when there is no Chromium on the machine.
func startBrowser(t *testing.T) *browser {
	t.Helper()
	var path string
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if found, err := exec.LookPath(name); err == nil {
			path = found
			break
		}
	}
	if path == "" {
		if os.Getenv("VOLTAGE_CI") == "1" {
			t.Fatal("no Chromium on this machine")
		}
		t.Skip("no Chromium on this machine: the page is not tried in a browser")
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	cmd := exec.CommandContext(ctx, path, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
		"--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
		"--user-data-dir="+t.TempDir(), "--remote-debugging-port=0", "about:blank")
	cmd.WaitDelay = 5 * time.Second
	stderr, err := cmd.StderrPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	b := &browser{t: t, ctx: ctx}
	address, gone := make(chan string, 1), make(chan struct{})
	go func() {
		defer close(gone)
		for lines := bufio.NewScanner(stderr); lines.Scan(); {
			if _, url, ok := strings.Cut(lines.Text(), "DevTools listening on "); ok {
				address <- url
				break
			}
		}
		close(address)
		_, _ = io.Copy(io.Discard, stderr)
	}()
	t.Cleanup(func() {
		if b.conn != nil {
			b.id++ // let it end by itself, so that no child of it stays
			_ = b.conn.Write(ctx, websocket.MessageText, fmt.Appendf(nil, `{"id":%d,"method":"Browser.close"}`, b.id))
			_ = b.conn.CloseNow()
		} else {
			cancel()
		}
		select {
		case <-gone: // the last of its processes, which may still write into its folder
		case <-time.After(20 * time.Second):
			cancel()
		}
		_ = cmd.Wait()
		cancel()
	})
	url := <-address
	require.NotEmpty(t, url, "Chromium did not start")
	host, _, _ := strings.Cut(strings.TrimPrefix(url, "ws://"), "/")
	conn, _, err := websocket.Dial(ctx, url, nil)
	require.NoError(t, err)
	conn.SetReadLimit(64 << 20)
	b.conn = conn
	// A tab of its own: that of the start may not be there yet.
	var target struct{ TargetID string }
	b.call("Target.createTarget", map[string]any{"url": "about:blank"}, &target)
	tab, _, err := websocket.Dial(ctx, "ws://"+host+"/devtools/page/"+target.TargetID, nil)
	require.NoError(t, err)
	tab.SetReadLimit(64 << 20)
	_ = conn.CloseNow()
	b.conn = tab
	for _, domain := range []string{"Page", "Runtime", "Log"} {
		b.call(domain+".enable", nil, nil)
	}
	return b
}

// call sends one request and waits for its answer.
func (b *browser) call(method string, params map[string]any, result any) {
	b.t.Helper()
	require.Empty(b.t, b.ask(method, params, result), method)
}

// ask is call for what may be refused; it returns why, or nothing.
func (b *browser) ask(method string, params map[string]any, result any) string {
	b.t.Helper()
	b.id++
	body, err := json.Marshal(map[string]any{"id": b.id, "method": method, "params": params})
	require.NoError(b.t, err)
	require.NoError(b.t, b.conn.Write(b.ctx, websocket.MessageText, body))
	for {
		_, body, err := b.conn.Read(b.ctx)
		require.NoError(b.t, err)
		var answer struct {
			ID     int
			Method string
			Result json.RawMessage
			Error  struct{ Message string }
		}
		require.NoError(b.t, json.Unmarshal(body, &answer))
		switch {
		case answer.Method == "Runtime.exceptionThrown", answer.Method == "Log.entryAdded" && strings.Contains(string(body), `"level":"error"`) &&
			!strings.Contains(string(body), "status of 422"): // the command that is to be refused
			b.errors = append(b.errors, string(body))
		case answer.ID == b.id:
			if answer.Error.Message == "" && result != nil {
				require.NoError(b.t, json.Unmarshal(answer.Result, result))
			}
			return answer.Error.Message
		}
	}
}

// interrupted are the errors of an evaluation during which the page was left.
var interrupted = []string{"Inspected target navigated or closed", "Execution context was destroyed",
	"Cannot find context with specified id", "Cannot find default execution context"}

// try runs JavaScript in the page and returns its value as text, and false when the
// page was left meanwhile: the script may have run or not.
func (b *browser) try(script string) (string, bool) {
	b.t.Helper()
	var answer struct {
		Result           struct{ Value any }
		ExceptionDetails json.RawMessage
	}
	failed := b.ask("Runtime.evaluate", map[string]any{"expression": script, "returnByValue": true, "awaitPromise": true}, &answer)
	for _, text := range interrupted {
		if strings.HasPrefix(failed, text) {
			return "", false
		}
	}
	require.Empty(b.t, failed, script)
	require.Empty(b.t, answer.ExceptionDetails, string(answer.ExceptionDetails))
	return fmt.Sprint(answer.Result.Value), true
}

// eval is try in a page that stays.
func (b *browser) eval(script string) string {
	b.t.Helper()
	value, ok := b.try(script)
	require.True(b.t, ok, "the page was left: "+script)
	return value
}

// wait waits until a JavaScript condition is true, in this page or in the one that
// takes its place.
func (b *browser) wait(condition string) {
	b.t.Helper()
	script := "(() => { try { return !!(" + condition + "); } catch { return false; } })()"
	for deadline := time.Now().Add(20 * time.Second); ; {
		if value, _ := b.try(script); value == "true" {
			return
		}
		if time.Now().After(deadline) {
			text, _ := b.try("document.body && document.body.innerText")
			require.Fail(b.t, "never true: "+condition, text)
		}
		<-time.After(20 * time.Millisecond)
	}
}

// leave runs JavaScript that makes the page load anew, and waits for the new one.
// The old page never answers the evaluation, so that it always ends as the page does.
func (b *browser) leave(script string) {
	b.t.Helper()
	b.eval(`document.documentElement.dataset.before = '1'`) // to tell it from the new one
	_, stayed := b.try(`new Promise(() => { ` + script + ` })`)
	require.False(b.t, stayed, "the page stays: "+script)
	b.wait(`!document.documentElement.dataset.before`)
}

// shot writes a picture of the whole page into the folder that the variable
// VOLTAGE_SCREENSHOTS names, if it does.
func (b *browser) shot(name string, width int, scheme string) {
	b.t.Helper()
	dir := os.Getenv("VOLTAGE_SCREENSHOTS")
	if dir == "" {
		return
	}
	b.call("Emulation.setEmulatedMedia", map[string]any{"features": []map[string]string{{"name": "prefers-color-scheme", "value": scheme}}}, nil)
	b.call("Emulation.setDeviceMetricsOverride", map[string]any{"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}, nil)
	var picture struct{ Data string }
	b.call("Page.captureScreenshot", map[string]any{"captureBeyondViewport": true}, &picture)
	data, err := base64.StdEncoding.DecodeString(picture.Data)
	require.NoError(b.t, err)
	require.NoError(b.t, os.WriteFile(filepath.Join(dir, name+".png"), data, 0o600))
}

func TestPageInBrowser(t *testing.T) {
	t.Parallel()
	b := startBrowser(t)
	site := newFakeSite()
	now := time.Now()
	shift := now.Sub(start)
	site.shift(shift)
	// What names and messages hold must stay text.
	// A tree, a circle, and a parent that is not there.
	parents := map[string]string{"bms1": "weather", "pv": "pcs1", "pcs1": "pv", "weather": "nowhere"}
	for i := range site.models {
		site.models[i].Parent = parents[site.models[i].ID]
	}
	site.alarms[0].Message = `Battery is too hot <img src=x onerror="window.hacked=1">`
	h := newHandler(t, site, nil)
	site.onSubmit = func(r model.CommandResult) {
		h.Command(model.CommandEvent{Position: "1-0", CommandResult: r})
		r.State, r.Reason, r.Detail = model.CommandVerified, "", ""
		r.ReadBack = &r.Value
		site.set(func() { site.commands[r.ID] = r })
		h.Command(model.CommandEvent{Position: "2-0", CommandResult: r})
	}
	var serving atomic.Pointer[Handler]
	serving.Store(h)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { serving.Load().ServeHTTP(w, r) }))
	defer server.Close()

	b.call("Page.navigate", map[string]any{"url": server.URL}, nil)
	b.wait(`document.body.dataset.link === 'live' && document.querySelectorAll('.card').length === 5`)
	assert.Equal(t, "plant-a", b.eval(`document.getElementById('site').textContent`))
	order := b.eval(`[...document.querySelectorAll('.card')].map((x) => x.getAttribute('aria-label')).join()`)
	assert.Contains(t, order, "weather,Battery,", "parts come after what they are parts of")
	assert.Equal(t, "Part of Battery converter", b.eval(`document.querySelector('[aria-label="PV inverter"] .part').textContent`))
	assert.Equal(t, "Part of nowhere", b.eval(`document.querySelector('[aria-label="weather"] .part').textContent`))
	assert.Equal(t, "undefined", b.eval(`typeof window.hacked`))
	assert.Contains(t, b.eval(`document.getElementById('alarms').innerText`), "<img src=x")
	row := func(card, title string) string {
		return b.eval(fmt.Sprintf(`document.querySelector('[aria-label="%s"] dt[title="%s"]').parentNode.innerText`, card, title))
	}
	assert.Contains(t, row("PV inverter", "state"), "Running")
	assert.Contains(t, row("weather", "humidity"), "offline")
	assert.Contains(t, row("weather", "forecast_power"), "—")
	assert.Contains(t, row("Battery", "serial_number"), "BAT-2026-00017")

	site.setValue("pv", "temperature", func(v *model.Value) { v.Value = 77.5 })
	h.Update(model.Update{Model: "pv"})
	b.wait(`document.querySelector('[aria-label="PV inverter"] dt[title="temperature"]').parentNode.innerText.includes('77.5')`)

	form := `[...document.querySelectorAll('form')].find((f) => f.innerText.includes('Active power setpoint'))`
	b.eval(`(() => { document.getElementById('operator').value = 'anna'; const f = ` + form + `; f.querySelector('input').value = '25.5'; f.requestSubmit(); })()`)
	b.wait(form + `.querySelector('.chip.verified')`)
	site.set(func() { assert.Equal(t, 25.5, site.last.Value); assert.Equal(t, "anna", site.last.User) })
	b.wait(`document.getElementById('commands').innerText.includes('verified')`)
	site.set(func() { site.end, site.onSubmit = model.CommandRejected, nil })
	b.eval(`(() => { const f = ` + form + `; f.querySelector('input').value = '9999'; f.requestSubmit(); })()`)
	b.wait(form + `.querySelector('.chip.rejected')`)

	b.shot("wide-light", 1280, "light")
	b.shot("wide-dark", 1280, "dark")
	b.shot("narrow-light", 400, "light")
	assert.Equal(t, "true", b.eval(`document.documentElement.scrollWidth <= innerWidth`), "nothing sticks out")

	b.eval(`[...document.querySelectorAll('.alarm button')].find((x) => x.textContent === 'Acknowledge').click()`)
	b.wait(`document.querySelectorAll('.alarm.acknowledged').length === 2`)
	require.Empty(t, b.errors, "the page runs without errors")

	require.NoError(t, h.Close(context.Background()))
	b.wait(`document.body.dataset.link === 'lost' && [...document.querySelectorAll('.control button')].every((x) => x.disabled)`)
	assert.Equal(t, "false", b.eval(`document.getElementById('notice').hidden`))
	b.shot("lost-light", 1280, "light")

	site.setValue("pv", "temperature", func(v *model.Value) { v.Value = 12.5 })
	serving.Store(newHandler(t, site, nil))
	b.wait(`document.body.dataset.link === 'live' && document.getElementById('notice').hidden`)
	assert.Contains(t, row("PV inverter", "temperature"), "12.5")
	assert.Equal(t, "false", b.eval(form+`.querySelector('button').disabled`))
}

// The page asks for a credential, keeps it in the tab, and shows what the role allows.
func TestPageAsksForALogin(t *testing.T) {
	t.Parallel()
	b := startBrowser(t)
	site := newFakeSite()
	site.shift(time.Since(start))
	h := newHandler(t, site, withKeys)
	server := httptest.NewServer(h)
	defer server.Close()
	login := func(key string) {
		b.eval(`(() => { document.getElementById('credential').value = '` + key + `'; document.getElementById('login').requestSubmit(); })()`)
	}
	live := `document.body.dataset.link === 'live' && document.querySelectorAll('.card').length === 5`
	b.call("Page.navigate", map[string]any{"url": server.URL}, nil)
	b.wait(`document.getElementById('login')`)
	assert.Equal(t, "0", b.eval(`document.querySelectorAll('.card').length`))
	b.shot("login-light", 1280, "light")
	b.shot("login-narrow", 400, "dark")
	login("wrong")
	b.wait(`document.querySelector('#login .trouble').textContent.includes('not accepted')`)
	login("viewer")
	b.wait(live)
	visible := `[...document.querySelectorAll('[data-operate]')].filter((x) => x.offsetParent !== null).length`
	assert.Equal(t, "0", b.eval(visible), "who reads only sees nothing to operate")
	assert.Equal(t, "the viewer (viewer)", b.eval(`document.getElementById('who-name').textContent`))
	b.shot("viewer-light", 1280, "light")
	b.leave(`location.reload()`)
	b.wait(live)
	b.leave(`document.getElementById('logout').click()`)
	b.wait(`document.getElementById('login')`)
	login("operator")
	b.wait(live)
	assert.NotEqual(t, "0", b.eval(visible))
	form := `[...document.querySelectorAll('form')].find((f) => f.innerText.includes('Active power setpoint'))`
	b.eval(`(() => { const f = ` + form + `; f.querySelector('input').value = '25.5'; f.requestSubmit(); })()`)
	b.wait(form + `.querySelector('.chip')`)
	require.Eventually(t, func() bool {
		site.mu.Lock()
		defer site.mu.Unlock()
		return site.last.User == "the operator"
	}, 20*time.Second, time.Millisecond)
	b.shot("operator-light", 1280, "light")
	for _, text := range b.errors {
		assert.Contains(t, text, "status of 401", "the page runs without errors but those of the logins that were refused")
	}
	for _, e := range site.entries() {
		assert.NotContains(t, e.Target+e.Detail, "voltage.bearer")
	}
}
