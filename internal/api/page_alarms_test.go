package api

import (
	"fmt"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/voltageems/voltage/model"
)

// The page shows every kind of alarm, and does what a person can do about them.
func TestPageAlarms(t *testing.T) {
	t.Parallel()
	b := startBrowser(t)
	site := alarmSite()
	const evil = `<img src=x onerror="window.hacked=1">`
	site.alarms[4].Reason, site.alarms[2].Message, site.alarms[3].Comment = "being cleaned "+evil, "warm "+evil, evil
	for i := range 120 {
		at := start.Add(time.Duration(i-240) * time.Minute)
		site.events = append(site.events, model.AlarmEvent{Position: fmt.Sprintf("%d-0", at.UnixMilli()), Time: at, Transition: model.TransitionRaised,
			Alarm: fmt.Sprint(i), Model: "pv", Point: "temperature", Rule: "hot", Severity: model.Severities()[i%4], Status: model.AlarmActive,
			Value: 71.5, Threshold: 70, Message: evil, By: evil, Comment: "c"})
	}
	site.events = site.events[2:]
	site.shift(time.Since(start))
	h := newHandler(t, site, withKeys)
	server := httptest.NewServer(h)
	defer server.Close()
	login := func(role string) {
		b.call("Page.navigate", map[string]any{"url": server.URL}, nil)
		b.wait(`document.getElementById('login')`)
		b.eval(`(() => { document.getElementById('credential').value = '` + role + `'; document.getElementById('login').requestSubmit(); })()`)
		b.wait(`document.body.dataset.link === 'live' && document.querySelectorAll('.alarm').length === 9`)
	}
	text := func(node string) string { return b.eval(`document.querySelector('` + node + `').innerText`) }
	visible := func(selector string) string {
		return b.eval(`[...document.querySelectorAll('` + selector + `')].filter((x) => x.offsetParent !== null).length`)
	}
	set := func(selector, value string) {
		b.eval(`(() => { const x = document.querySelector('` + selector + `'); x.value = '` + value + `'; x.dispatchEvent(new Event('change')); })()`)
	}
	press := func(label string) {
		b.eval(`[...document.querySelectorAll('.panel button')].find((x) => x.offsetParent && (x.getAttribute('aria-label') || x.textContent).startsWith('` + label + `')).click()`)
	}

	login("operator")
	for _, words := range []string{"unacknowledged", "acknowledged", "returned, unacknowledged", "latched", "shelved, ", "min left", "out of service",
		"suppressed by design", "held: stale", "chattering", "17 times", "berta: being cleaned <img", "warm <img"} {
		assert.Contains(t, text("#alarms"), words)
	}
	assert.Equal(t, "2 critical,2 high,2 medium,3 not told", b.eval(`[...document.querySelectorAll('#alarms-count .count')].map((x) => x.textContent).join()`))
	assert.Equal(t, "5 unacknowledged", text("#unacknowledged"))
	order := b.eval(`[...document.querySelectorAll('.alarm')].map((x) => x.className.replace('alarm ', '')).join()`)
	assert.Equal(t, "critical active,critical latched,high cleared,high active,medium active,medium acknowledged,high active quiet,high active quiet,low active quiet", order)
	assert.Equal(t, "0", visible("[data-engineer]"), "an operator takes nothing out of service")
	b.shot("alarms-light", 1280, "light")
	b.shot("alarms-dark", 1280, "dark")

	// What somebody types stays while alarms change.
	press("Shelve…: Battery is too hot")
	b.eval(`[...document.querySelectorAll('.shelve')].find((x) => !x.hidden).querySelector('input').value = 'fan is changed'`)
	site.set(func() { site.alarms[0].Count = 5 })
	h.Alarm(model.AlarmEvent{Position: "9-0", Transition: model.TransitionReraised, Time: time.Now(), Alarm: "2"})
	b.wait(`document.querySelector('#alarms').innerText.includes('5 times')`)
	b.shot("shelve-narrow", 400, "light")
	assert.Equal(t, "true", b.eval(`document.documentElement.scrollWidth <= innerWidth`), "nothing sticks out")
	b.eval(`[...document.querySelectorAll('.shelve')].find((x) => !x.hidden).requestSubmit()`)
	b.wait(`document.querySelector('#alarms').innerText.includes('the operator: fan is changed')`)
	site.set(func() {
		assert.Equal(t, "fan is changed", site.alarms[0].Reason)
		assert.Equal(t, time.Hour, site.alarms[0].ShelvedUntil.Sub(site.now))
	})
	press("Unshelve: Battery is too hot")
	b.wait(`!document.querySelector('#alarms').innerText.includes('fan is changed')`)
	press("Shelve…: Battery is too hot")
	b.eval(`[...document.querySelectorAll('.shelve')].find((x) => !x.hidden).requestSubmit()`)
	b.wait(`document.querySelector('#alarms').innerText.includes('say why')`)

	press("Reset")
	b.wait(`!document.querySelector('.alarm.latched')`)

	// All that is shown is acknowledged, and nothing else.
	set("#alarms-tools [aria-label=Severity]", "high")
	b.wait(`document.querySelectorAll('.alarm').length === 4`)
	set("#alarms-tools [aria-label=Model]", "pv")
	assert.Equal(t, "Acknowledge all shown (2)", b.eval(`[...document.querySelectorAll('#alarms-tools button')].map((x) => x.textContent).join()`))
	b.eval(`document.querySelector('#alarms-tools [aria-label=Comment]').value = 'seen by me'`)
	press("Acknowledge all shown")
	b.wait(`document.querySelectorAll('.alarm.high.acknowledged').length === 1 && !document.querySelector('.alarm.high.cleared')`)
	site.set(func() {
		at := site.find("9")
		assert.Equal(t, "seen by me", site.alarms[at].Comment)
		assert.Equal(t, "the operator", site.alarms[at].AcknowledgedBy)
		assert.Equal(t, model.AlarmActive, site.alarms[site.find("8")].Status, "it was not shown")
	})

	// The journal, page by page from the newest, and what happens meanwhile.
	b.eval(`document.querySelector('#journal details').open = true`)
	rows := `document.querySelectorAll('#journal tbody tr').length`
	b.wait(rows + ` === 50`)
	press("Older")
	b.wait(rows + ` === 100`)
	press("Older")
	b.wait(rows + ` === 120`)
	assert.Equal(t, "0", visible("#journal > details > button"))
	h.Alarm(model.AlarmEvent{Position: "99999999999999-0", Transition: model.TransitionShelved, Time: time.Now(), Alarm: "2", Model: "bms1", Point: "soc",
		Severity: model.Low, By: "anna", Comment: "why " + evil})
	b.wait(rows + ` === 121`)
	assert.Contains(t, text("#journal tbody tr"), "anna: why <img")
	set("#journal [aria-label=Period]", "1")
	b.wait(`document.querySelector('#journal').innerText.includes('Nothing in this period')`)
	set("#journal [aria-label=Period]", "24")
	b.wait(rows + ` === 50`)
	b.shot("journal-light", 1280, "light")
	b.shot("journal-narrow", 400, "dark")
	assert.Equal(t, "true", b.eval(`document.documentElement.scrollWidth <= innerWidth`), "nothing sticks out")
	b.eval(`(() => { const real = HTMLAnchorElement.prototype.click; HTMLAnchorElement.prototype.click = function () { window.file = this.download; real.call(this); }; })()`)
	press("Export CSV")
	b.wait(`window.file === 'alarm-journal-plant-a.csv'`)
	assert.Equal(t, "undefined", b.eval(`typeof window.hacked`))
	assert.Equal(t, "0", b.eval(`document.querySelectorAll('#alarms img, #journal img').length`))
	b.eval(`sessionStorage.clear()`)

	site.set(func() { site.alarms = alarmSite().alarms })
	login("engineer")
	press("Shelve…: Battery is too hot")
	b.eval(`[...document.querySelectorAll('.shelve')].find((x) => !x.hidden).querySelector('input').value = 'no sensor'`)
	press("Out of service")
	b.wait(`document.querySelector('#alarms').innerText.includes('the engineer: no sensor')`)
	press("In service: Battery is too hot")
	b.wait(`!document.querySelector('#alarms').innerText.includes('no sensor')`)
	b.eval(`sessionStorage.clear()`)
	login("viewer")
	assert.Equal(t, "0", visible("[data-operate]"))
	b.shot("alarms-viewer", 1280, "light")
	for _, text := range b.errors {
		assert.Contains(t, text, "status of 401", "the page runs without errors but those of the sessions that had no credential")
	}
}
