package api

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/voltageems/voltage/internal/auth"
	"github.com/voltageems/voltage/model"
	"github.com/voltageems/voltage/scripts"
)

// received is any message of the server.
type received struct {
	Type     string                   `json:"type"`
	Seq      int64                    `json:"seq"`
	Site     string                   `json:"site"`
	Now      int64                    `json:"now"`
	Models   map[string]receivedModel `json:"models"`
	Alarms   []model.Alarm            `json:"alarms"`
	Channels []model.ChannelStatus    `json:"channels"`
	Model    string                   `json:"-"`
	// Of "values", where it is of one model: that model and its values.
	Values   map[string]json.RawMessage            `json:"-"`
	All      map[string]map[string]json.RawMessage `json:"values"`
	Event    json.RawMessage                       `json:"event"`
	Channel  model.ChannelStatus                   `json:"channel"`
	Message  string                                `json:"message"`
	ID       json.RawMessage                       `json:"id"`
	Commands string                                `json:"commands"`
	// What is an alarm's list in a snapshot is a word in "resumed".
	AlarmWord string            `json:"-"`
	Positions map[string]string `json:"positions"`
}

// AlarmsState is the word for the alarms in "resumed".
func (m received) AlarmsState() string { return m.AlarmWord }

type receivedModel struct {
	modelForm
	Values map[string]json.RawMessage `json:"values"`
}

type peer struct {
	t      *testing.T
	conn   *websocket.Conn
	seq    int64
	strict bool // whole events are as openapi.json describes them
}

func serve(t *testing.T, h *Handler) *httptest.Server {
	t.Helper()
	server := httptest.NewServer(h)
	// A WebSocket's handler is no longer the server's: Close of h ends it.
	t.Cleanup(server.Close)
	return server
}

func dial(t *testing.T, server *httptest.Server) *peer {
	t.Helper()
	conn, _, err := websocket.Dial(context.Background(), server.URL+"/ws", nil)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.CloseNow() })
	conn.SetReadLimit(10 << 20)
	return &peer{t: t, conn: conn}
}

// open dials and takes the snapshot.
func open(t *testing.T, server *httptest.Server) (*peer, received) {
	t.Helper()
	p := dial(t, server)
	m := p.next()
	require.Equal(t, "snapshot", m.Type)
	return p, m
}

func (p *peer) next() received {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	_, body, err := p.conn.Read(ctx)
	require.NoError(p.t, err)
	var whole any
	require.NoError(p.t, json.Unmarshal(body, &whole))
	// Most tests tell of events that have next to nothing in them.
	if kind := whole.(object)["type"]; p.strict || kind != "alarm" && kind != "command" && kind != "channel" {
		require.NoError(p.t, contract().check(object{"$ref": "#/components/schemas/ServerMessage"}, whole, "message"))
	}
	var m received
	var words struct{ Type, Alarms string }
	if json.Unmarshal(body, &words) == nil && words.Type == "resumed" {
		m.AlarmWord = words.Alarms
		body = bytes.Replace(body, []byte(`"alarms":"`+words.Alarms+`"`), []byte(`"alarms":[]`), 1)
	}
	require.NoError(p.t, json.Unmarshal(body, &m), string(body))
	if len(m.All) == 1 {
		for m.Model, m.Values = range m.All {
			break
		}
	}
	p.seq++
	require.Equal(p.t, p.seq, m.Seq)
	return m
}

// nextOf skips messages of other types.
func (p *peer) nextOf(kind string) received {
	p.t.Helper()
	for {
		if m := p.next(); m.Type == kind {
			return m
		}
	}
}

func (p *peer) send(text string) {
	p.t.Helper()
	require.NoError(p.t, p.conn.Write(context.Background(), websocket.MessageText, []byte(text)))
}

func TestSnapshotAndChanges(t *testing.T) {
	t.Parallel()
	site := newFakeSite()
	h := newHandler(t, site, nil)
	p, m := open(t, serve(t, h))
	assert.Equal(t, "plant-a", m.Site)
	assert.NotZero(t, m.Now)
	require.Len(t, m.Models, 5)
	assert.Len(t, m.Alarms, 2)
	assert.Len(t, m.Channels, 5)
	pv := m.Models["pv"]
	assert.Equal(t, "PV inverter", pv.Name)
	assert.Equal(t, "Running", pv.Points["state"].Labels[2])
	assert.JSONEq(t, `{"value":61.25,"ts":1772366400000,"quality":"good","unit":"kW","kind":"measurement"}`, string(pv.Values["active_power"]))
	assert.JSONEq(t, `{"value":null,"ts":null,"quality":"offline","unit":"kW","kind":"measurement"}`, string(m.Models["weather"].Values["forecast_power"]))

	site.setValue("pv", "active_power", func(v *model.Value) { v.Value, v.Time = 58, start.Add(time.Second) })
	site.setValue("pv", "frequency", func(v *model.Value) { v.Quality = model.Stale })
	site.setValue("meter", "frequency", func(v *model.Value) { v.Value = 49 }) // not told of
	h.Update(model.Update{Model: "pv", Points: []model.PointUpdate{{Name: "active_power", Value: "58.000000"}}})
	m = p.next()
	assert.Equal(t, "values", m.Type)
	assert.Equal(t, "pv", m.Model)
	require.Len(t, m.Values, 2, "only what changed")
	assert.JSONEq(t, `{"value":58,"ts":1772366401000,"quality":"good","unit":"kW","kind":"measurement"}`, string(m.Values["active_power"]))
	assert.JSONEq(t, `{"value":50.01,"ts":1772366400000,"quality":"stale","unit":"Hz","kind":"measurement"}`, string(m.Values["frequency"]))

	h.Alarm(model.AlarmEvent{Alarm: "3", Transition: model.TransitionRaised})
	m = p.next()
	assert.Equal(t, "alarm", m.Type)
	assert.Contains(t, string(m.Event), `"transition":"raised"`)
	h.Command(model.CommandEvent{Position: "5-0", CommandResult: model.CommandResult{ID: "c9", State: model.CommandExecuting}})
	m = p.next()
	assert.Equal(t, "command", m.Type)
	assert.Contains(t, string(m.Event), `"id":"c9"`)
	h.Channel(model.ChannelStatus{ID: "1001", State: model.ChannelOffline})
	m = p.next()
	assert.Equal(t, "channel", m.Type)
	assert.Equal(t, model.ChannelOffline, m.Channel.State)

	site.set(func() { site.alarms = nil })
	h.Resync()
	m = p.next()
	assert.Equal(t, "snapshot", m.Type)
	assert.Empty(t, m.Alarms)
	assert.Contains(t, string(m.Models["meter"].Values["frequency"]), "49", "a new snapshot has what no update told of")
}

// Every message is as openapi.json describes it.
func TestMessagesAreDescribed(t *testing.T) {
	t.Parallel()
	site := newFakeSite()
	h := newHandler(t, site, nil)
	p := dial(t, serve(t, h))
	p.strict = true
	require.Equal(t, "snapshot", p.next().Type)
	ev := site.events[0]
	ev.Model, ev.Point, ev.Rule = "meter", "active_power", "peak"
	h.Alarm(ev)
	require.Equal(t, "alarm", p.next().Type)
	value := 5.0
	h.Command(model.CommandEvent{Position: "3-0", CommandResult: model.CommandResult{ID: "c1", Model: "pcs1", Control: "start", State: model.CommandVerified,
		Value: 5, ReadBack: &value, Created: start, Updated: start, Deadline: start}})
	require.Equal(t, "command", p.next().Type)
	h.Channel(site.channels[4])
	require.Equal(t, "channel", p.next().Type)
}

func TestModelsThatComeAndGo(t *testing.T) {
	t.Parallel()
	site := newFakeSite()
	h := newHandler(t, site, nil)
	p, _ := open(t, serve(t, h))
	site.set(func() { site.add("ev1", "Charger", 1006, m("power", 11, "kW")) })
	h.Update(model.Update{Model: "ev1"})
	s := p.nextOf("snapshot")
	assert.Len(t, s.Models, 6)
	assert.Len(t, s.Channels, 6)
	site.set(func() { delete(site.values["ev1"], "power") })
	h.Update(model.Update{Model: "ev1"})
	assert.Empty(t, p.nextOf("snapshot").Models["ev1"].Values)
	site.set(func() { delete(site.values, "ev1") }) // listed, but not stored
	h.Update(model.Update{Model: "ev1"})
	assert.NotNil(t, p.nextOf("snapshot").Models["ev1"].Values)
	site.set(func() { site.models = site.models[:5] })
	h.Resync()
	assert.Len(t, p.nextOf("snapshot").Models, 5)
}

func TestSubscribe(t *testing.T) {
	t.Parallel()
	site := newFakeSite()
	h := newHandler(t, site, nil)
	p, _ := open(t, serve(t, h))
	p.send(`{"id":7,"subscribe":{"models":["bms1","none"]}}`)
	m := p.next()
	assert.Equal(t, "subscribed", m.Type)
	assert.Equal(t, "7", string(m.ID))
	m = p.next()
	assert.Equal(t, "snapshot", m.Type)
	assert.Len(t, m.Models, 1)
	for _, id := range []string{"pv", "bms1"} {
		site.setValue(id, map[string]string{"pv": "temperature", "bms1": "soc"}[id], func(v *model.Value) { v.Value++ })
		h.Update(model.Update{Model: id})
	}
	assert.Equal(t, "bms1", p.nextOf("values").Model)
	p.send(`{"subscribe":{"models":[]}}`)
	assert.Empty(t, p.nextOf("snapshot").Models)
	p.send(`{"subscribe":{"models":null}}`)
	assert.Len(t, p.nextOf("snapshot").Models, 5)
}

func TestSubscribeToPoints(t *testing.T) {
	t.Parallel()
	site := newFakeSite()
	h := newHandler(t, site, nil)
	p, m := open(t, serve(t, h))
	assert.Equal(t, map[string]string{"alarms": "2-0", "commands": "0"}, m.Positions)
	p.send(`{"id":"a","subscribe":{"points":["bms1:soc","bms1:none","pv:state"],"models":["meter"],"alarms":false,"commands":true,"channels":false}}`)
	m = p.nextOf("snapshot")
	require.Len(t, m.Models, 3)
	assert.Len(t, m.Models["meter"].Values, 19)
	assert.Len(t, m.Models["bms1"].Values, 1)
	assert.Contains(t, m.Models["pv"].Values, "state")
	assert.Empty(t, m.Alarms)
	assert.Empty(t, m.Channels)
	tell := func(id, name string) {
		site.setValue(id, name, func(v *model.Value) { v.Value++ })
		h.Update(model.Update{Model: id})
	}
	h.Alarm(model.AlarmEvent{})
	h.Channel(model.ChannelStatus{ID: "1001"})
	tell("bms1", "soh") // not wanted, like the two above
	tell("bms1", "soc")
	m = p.next()
	assert.Equal(t, "values", m.Type)
	assert.Equal(t, "bms1", m.Model)
	assert.Len(t, m.Values, 1)
	assert.Contains(t, m.Values, "soc")
	h.Command(model.CommandEvent{Position: "9-0"})
	assert.Equal(t, "command", p.next().Type)
	p.send(`{"id":2,"subscribe":{"points":[]}}`)
	assert.Empty(t, p.nextOf("snapshot").Models)
}

// A client that comes back is given the transitions that it missed, or told that
// some of them are not to be had any more.
func TestResume(t *testing.T) {
	t.Parallel()
	site := newFakeSite()
	for i := range 5 {
		site.told = append(site.told, model.CommandEvent{Position: fmt.Sprintf("%d-1", 10+i)})
	}
	h := newHandler(t, site, nil)
	server := serve(t, h)
	back := func(query string) (told received, events []string) {
		t.Helper()
		conn, _, err := websocket.Dial(context.Background(), server.URL+"/ws"+query, nil)
		require.NoError(t, err)
		defer func() { _ = conn.CloseNow() }()
		conn.SetReadLimit(10 << 20)
		p := &peer{t: t, conn: conn}
		require.Equal(t, "snapshot", p.next().Type)
		told = p.next()
		require.Equal(t, "resumed", told.Type)
		h.Command(model.CommandEvent{Position: "99-0"}) // a later one, so that the end is seen
		for {
			m := p.next()
			var ev struct{ Position string }
			require.NoError(t, json.Unmarshal(m.Event, &ev))
			if ev.Position == "99-0" {
				return told, events
			}
			events = append(events, m.Type+" "+ev.Position)
		}
	}
	told, events := back("?after_alarms=1-0&after_commands=12-1")
	assert.Equal(t, "complete", told.AlarmsState())
	assert.Equal(t, "complete", told.Commands)
	assert.Equal(t, []string{"alarm 2-0", "command 13-1", "command 14-1"}, events)
	told, events = back("?after_commands=14-1")
	assert.Equal(t, "complete", told.Commands)
	assert.Empty(t, told.AlarmsState())
	assert.Empty(t, events)
	told, events = back("?after_commands=0")
	assert.Equal(t, "complete", told.Commands, "nothing was there when it left")
	assert.Len(t, events, 5)
	for _, query := range []string{"?after_commands=9-1", "?after_commands=12-2", "?after_commands=77-0"} {
		told, events = back(query)
		assert.Equal(t, "gap", told.Commands, query)
		assert.Empty(t, events)
	}
	site.set(func() {
		for i := range maxReplay + 1 {
			site.told = append(site.told, model.CommandEvent{Position: fmt.Sprintf("20-%d", i)})
		}
	})
	told, _ = back("?after_commands=14-1")
	assert.Equal(t, "gap", told.Commands, "too much")
	told, events = back("?after_commands=20-0")
	assert.Equal(t, "complete", told.Commands)
	assert.Len(t, events, maxReplay)
	site.set(func() { site.errs["CommandJournal"] = scripts.ErrStore })
	told, _ = back("?after_commands=20-0")
	assert.Equal(t, "gap", told.Commands)
	_, res, err := websocket.Dial(context.Background(), server.URL+"/ws?after_alarms=x", nil)
	require.Error(t, err)
	assert.Equal(t, http.StatusBadRequest, res.StatusCode)
}

func TestResumedOutbox(t *testing.T) {
	t.Parallel()
	at := func(kind, position string) message { return message{kind: kind, position: position} }
	o := newOutbox()
	o.resuming = true
	for _, position := range []string{"1-0", "2-0", "3-0"} {
		require.True(t, o.event(at("alarm", position)))
	}
	o.snapshot([]byte(`{}`))
	require.True(t, o.event(at("alarm", "4-0")))
	require.True(t, o.event(at("command", "1-0")))
	assert.Empty(t, o.take(), "nothing before it is known what was missed")
	o.resume([]message{at("alarm", "1-0"), at("alarm", "2-0")}, []byte(`{}`))
	var got []string
	for _, m := range o.take() {
		got = append(got, m.kind+" "+m.position)
	}
	assert.Equal(t, []string{"snapshot ", "resumed ", "alarm 1-0", "alarm 2-0", "alarm 3-0", "alarm 4-0", "command 1-0"}, got, "each once, in order")
	for _, tt := range [][2]string{{"5-0", "4-18446744073709551615"}, {"5-3", "5-2"}, {"0-0", "0-0"}, {"7", "6-18446744073709551615"}} {
		assert.Equal(t, tt[1], previous(tt[0]))
	}
	assert.True(t, newer("10-0", "9-5"))
	assert.True(t, newer("10-2", "10-1"))
	assert.False(t, newer("10-1", "10-1"))
	assert.True(t, newer("0-1", ""))
}

// Who sends too much is told so and goes; a name takes at most half of the places.
func TestLimitsOfClients(t *testing.T) {
	t.Parallel()
	clock := newTestClock()
	h := newHandler(t, newFakeSite(), func(c *Config) { c.Clock = clock })
	p, _ := open(t, serve(t, h))
	for range messageBurst + 1 {
		p.send(`{"id":1}`)
	}
	var err error
	for err == nil {
		_, _, err = p.conn.Read(context.Background())
	}
	assert.Equal(t, websocket.StatusPolicyViolation, websocket.CloseStatus(err))

	h = newHandler(t, newFakeSite(), func(c *Config) {
		withKeys(c)
		c.MaxClients = 4
	})
	server := serve(t, h)
	dialAs := func(key string) int {
		conn, res, err := websocket.Dial(context.Background(), server.URL+"/ws", &websocket.DialOptions{HTTPHeader: http.Header{"X-Api-Key": {key}}})
		if err == nil {
			t.Cleanup(func() { _ = conn.CloseNow() })
		}
		return res.StatusCode
	}
	assert.Equal(t, []int{101, 101, 503, 101, 101, 503}, []int{dialAs("viewer"), dialAs("viewer"), dialAs("viewer"), dialAs("admin"), dialAs("operator"), dialAs("engineer")})
}

// A client that reads, but not as fast as alarms come, is told why it goes.
func TestSlowClientIsTold(t *testing.T) {
	t.Parallel()
	h := newHandler(t, newFakeSite(), nil)
	p, _ := open(t, serve(t, h))
	ev := model.AlarmEvent{Message: strings.Repeat("x", 16<<10)}
	for i := 0; i < 100_000 && h.hub.count() > 0; i++ {
		h.Alarm(ev)
	}
	var err error
	for err == nil {
		_, _, err = p.conn.Read(context.Background())
	}
	assert.Equal(t, closeSlow, websocket.CloseStatus(err))
}

func FuzzClientMessage(f *testing.F) {
	f.Add([]byte(`{"id":1,"subscribe":{"models":["a"],"points":["a:b"],"alarms":false}}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		id, sub, err := parseMessage(body)
		if err == nil {
			require.NotNil(t, sub)
			require.LessOrEqual(t, len(id), maxMessageID)
			require.True(t, json.Valid(replyBody(id, "x")))
		}
	})
}

func TestUnknownClientMessages(t *testing.T) {
	t.Parallel()
	p, _ := open(t, serve(t, newHandler(t, newFakeSite(), nil)))
	many := strings.TrimSuffix(strings.Repeat(`"m",`, maxSubscribed+1), ",")
	for text, want := range map[string]string{
		"hello":                                   "not a JSON object",
		`{"id":[1],"subscribe":{}}`:               `want a number`,
		`{"subscribe":{"points":["a"]}}`:          "want owner:name",
		`{"subscribe":{"alarms":5}}`:              `number is not true or false`,
		`{"set":1}`:                               `field "set" is unknown`,
		`{}`:                                      `"subscribe" is missing`,
		`{"subscribe":{"names":[]}}`:              `field "names" is unknown`,
		`{"subscribe":{"models":"pv"}}`:           `string is not a list`,
		`{"subscribe":{"models":["a b"]}}`:        "model: id",
		`{"subscribe":{"models":[` + many + `]}}`: "at most 1000",
	} {
		p.send(text)
		m := p.next()
		assert.Equal(t, "error", m.Type, text)
		assert.Contains(t, m.Message, want)
	}
	require.NoError(t, p.conn.Write(context.Background(), websocket.MessageBinary, []byte{1}))
	assert.Contains(t, p.next().Message, "text messages")
	p.send(strings.Repeat("x", maxClientMessage+1))
	_, _, err := p.conn.Read(context.Background())
	assert.Equal(t, websocket.StatusMessageTooBig, websocket.CloseStatus(err))
}

func TestRateAndHeartbeat(t *testing.T) {
	t.Parallel()
	site, clock := newFakeSite(), newTestClock()
	h := newHandler(t, site, func(c *Config) { c.Clock, c.Interval = clock, 200*time.Millisecond })
	p, m := open(t, serve(t, h))
	assert.Equal(t, start.UnixMilli(), m.Now)
	waitAsked := func(d time.Duration) {
		t.Helper()
		for {
			select {
			case asked := <-clock.asked:
				if asked == d {
					return
				}
			case <-time.After(20 * time.Second):
				require.Fail(t, "nobody waits")
			}
		}
	}
	reads := site.readCount()
	assert.Equal(t, 5, reads)
	site.setValue("pv", "temperature", func(v *model.Value) { v.Value = 1 })
	h.Update(model.Update{Model: "pv"})
	waitAsked(200 * time.Millisecond)
	for i := range 10 {
		site.setValue("pv", "temperature", func(v *model.Value) { v.Value = float64(i + 2) })
		h.Update(model.Update{Model: "pv"})
	}
	assert.Equal(t, reads, site.readCount(), "nothing is read before the interval is over")
	clock.move(200 * time.Millisecond)
	m = p.next()
	assert.Equal(t, "values", m.Type)
	assert.Contains(t, string(m.Values["temperature"]), `"value":11,`)
	assert.Equal(t, reads+1, site.readCount())

	// Ten seconds on, everything is read again although no update came.
	site.setValue("bms1", "soc", func(v *model.Value) { v.Value = 5 })
	site.set(func() { site.channels[0].Reads++ })
	stop := clock.run()
	defer stop()
	kinds := map[string]received{}
	for len(kinds) < 2 {
		if m = p.next(); m.Type != "heartbeat" {
			kinds[m.Type] = m
		}
	}
	assert.Equal(t, "bms1", kinds["values"].Model)
	assert.EqualValues(t, 3601, kinds["channel"].Channel.Reads)
	assert.Greater(t, p.nextOf("heartbeat").Now, start.UnixMilli())
}

func TestNothingIsReadForNobody(t *testing.T) {
	t.Parallel()
	site := newFakeSite()
	h := newHandler(t, site, nil)
	h.Update(model.Update{Model: "pv"})
	h.Resync()
	p, _ := open(t, serve(t, h))
	assert.Equal(t, 5, site.readCount())
	require.NoError(t, p.conn.Close(websocket.StatusNormalClosure, ""))
	require.Eventually(t, func() bool {
		h.hub.mu.Lock()
		defer h.hub.mu.Unlock()
		return !h.hub.running && h.hub.reserved == 0
	}, 20*time.Second, time.Millisecond)
	for range 100 {
		h.Update(model.Update{Model: "pv"})
		h.Resync()
	}
	assert.Equal(t, 5, site.readCount())
	assert.Zero(t, h.hub.count())
	assert.Empty(t, h.hub.dirty)
}

func TestStoreFailsAndComesBack(t *testing.T) {
	t.Parallel()
	for name, fail := range map[string]func(*fakeSite){
		"error": func(s *fakeSite) { s.err = scripts.ErrStore },
		"panic": func(s *fakeSite) { s.boom = true },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			site, clock := newFakeSite(), newTestClock()
			h := newHandler(t, site, func(c *Config) { c.Clock = clock })
			server := serve(t, h)
			p, _ := open(t, server)
			site.set(func() { fail(site) })
			clock.move(time.Second)
			h.Resync()
			m := p.next()
			assert.Equal(t, "error", m.Type)
			late := dial(t, server) // gets its snapshot when there is one
			site.set(func() { site.err, site.boom = nil, false })
			site.setValue("pv", "temperature", func(v *model.Value) { v.Value = -7 })
			stop := clock.run()
			defer stop()
			assert.Contains(t, string(p.nextOf("snapshot").Models["pv"].Values["temperature"]), "-7")
			assert.Len(t, late.nextOf("snapshot").Models, 5)
		})
	}
}

func TestClientLimit(t *testing.T) {
	t.Parallel()
	h := newHandler(t, newFakeSite(), func(c *Config) { c.MaxClients = 1 })
	server := serve(t, h)
	first, _ := open(t, server)
	assert.Contains(t, do(h, "GET", "/metrics", "").Body.String(), "voltage_websocket_clients 1\n")
	_, res, err := websocket.Dial(context.Background(), server.URL+"/ws", nil)
	require.Error(t, err)
	assert.Equal(t, http.StatusServiceUnavailable, res.StatusCode)
	require.NoError(t, first.conn.Close(websocket.StatusNormalClosure, ""))
	require.Eventually(t, func() bool {
		conn, _, err := websocket.Dial(context.Background(), server.URL+"/ws", nil)
		if err == nil {
			_ = conn.CloseNow()
		}
		return err == nil
	}, 20*time.Second, time.Millisecond, "the place is free again")
}

func TestForeignPagesGetNoWebSocket(t *testing.T) {
	t.Parallel()
	server := serve(t, newHandler(t, newFakeSite(), nil))
	for _, header := range []http.Header{
		{"Origin": {"http://evil.example"}}, {"Origin": {"null"}}, {"Sec-Fetch-Site": {"same-site"}},
	} {
		_, res, err := websocket.Dial(context.Background(), server.URL+"/ws", &websocket.DialOptions{HTTPHeader: header})
		require.Error(t, err)
		assert.Equal(t, http.StatusForbidden, res.StatusCode, header)
	}
	_, res, err := websocket.Dial(context.Background(), server.URL+"/ws", &websocket.DialOptions{Host: "evil.example"})
	require.Error(t, err)
	assert.Equal(t, http.StatusForbidden, res.StatusCode)
	conn, _, err := websocket.Dial(context.Background(), server.URL+"/ws", &websocket.DialOptions{HTTPHeader: http.Header{"Origin": {server.URL}}})
	require.NoError(t, err)
	_ = conn.CloseNow()
	res, err = http.Get(server.URL + "/ws")
	require.NoError(t, err)
	_ = res.Body.Close()
	assert.Equal(t, http.StatusUpgradeRequired, res.StatusCode)
}

// A WebSocket needs a credential, which browsers send as a subprotocol, and ends
// when that ends.
func TestWebSocketLogin(t *testing.T) {
	t.Parallel()
	clock := newTestClock()
	h := newHandler(t, newFakeSite(), func(c *Config) {
		c.Clock = clock
		withKeys(c)
		c.Guard = auth.New(auth.Config{Clock: clock, Keys: []auth.Key{
			{Name: "short", Role: viewer, Digest: sha256.Sum256([]byte("short")), Expires: start.Add(time.Hour)}}})
	})
	server := serve(t, h)
	for _, header := range []http.Header{{}, {"Sec-Websocket-Protocol": {"voltage, voltage.bearer.d3Jvbmc"}}, {"Sec-Websocket-Protocol": {"voltage.bearer.!"}}} {
		_, res, err := websocket.Dial(context.Background(), server.URL+"/ws", &websocket.DialOptions{HTTPHeader: header})
		require.Error(t, err)
		assert.Equal(t, http.StatusUnauthorized, res.StatusCode)
	}
	protocol := auth.Subprotocol + base64.RawURLEncoding.EncodeToString([]byte("short"))
	conn, res, err := websocket.Dial(context.Background(), server.URL+"/ws", &websocket.DialOptions{Subprotocols: []string{"voltage", protocol}})
	require.NoError(t, err)
	defer func() { _ = conn.CloseNow() }()
	assert.Equal(t, "voltage", res.Header.Get("Sec-WebSocket-Protocol"), "the credential is not sent back")
	conn.SetReadLimit(10 << 20)
	_, _, err = conn.Read(context.Background())
	require.NoError(t, err)
	clock.move(time.Hour)
	for err == nil {
		_, _, err = conn.Read(context.Background())
	}
	assert.Equal(t, closeExpired, websocket.CloseStatus(err))
}

// TestSlowClient has one client that never reads: it is cut off, and the others
// and the callbacks never wait for it.
func TestSlowClient(t *testing.T) {
	t.Parallel()
	h := newHandler(t, newFakeSite(), nil)
	server := serve(t, h)
	slow, _ := open(t, server)
	_ = slow
	require.Equal(t, 1, h.hub.count())
	ev := model.CommandEvent{CommandResult: model.CommandResult{Detail: strings.Repeat("x", 16<<10)}}
	for range 100_000 { // far more than the sockets' buffers hold
		h.Command(ev)
		if h.hub.count() == 0 {
			break
		}
	}
	require.Eventually(t, func() bool { return h.hub.count() == 0 }, 20*time.Second, time.Millisecond)
	next, _ := open(t, server)
	h.Command(model.CommandEvent{Position: "7-0"})
	assert.Contains(t, string(next.next().Event), `"7-0"`)
}

func TestCloseTellsClients(t *testing.T) {
	t.Parallel()
	h := New(Config{Site: newFakeSite()})
	server := serve(t, h)
	p, _ := open(t, server)
	closed := make(chan error, 1)
	go func() {
		for {
			if _, _, err := p.conn.Read(context.Background()); err != nil {
				closed <- err
				return
			}
		}
	}()
	require.NoError(t, h.Close(context.Background()))
	assert.Equal(t, websocket.StatusGoingAway, websocket.CloseStatus(<-closed))
	require.NoError(t, h.Close(context.Background()))
	_, res, err := websocket.Dial(context.Background(), server.URL+"/ws", nil)
	require.Error(t, err)
	assert.Equal(t, http.StatusServiceUnavailable, res.StatusCode)
}

// TestCloseIsBounded has a client that does not answer the closing.
func TestCloseIsBounded(t *testing.T) {
	t.Parallel()
	h := New(Config{Site: newFakeSite()})
	_, _ = open(t, serve(t, h))
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := h.Close(ctx); err != nil { // it may be done already
		assert.ErrorIs(t, err, context.Canceled)
	}
	require.NoError(t, h.Close(context.Background()))
	assert.Zero(t, h.hub.count())
}

func TestOutbox(t *testing.T) {
	t.Parallel()
	changed := func(pairs ...string) *change {
		values := map[string]json.RawMessage{}
		for i := 0; i < len(pairs); i += 2 {
			values[pairs[i]] = json.RawMessage(pairs[min(i+1, len(pairs)-1)])
		}
		ch, err := newChange("a", values)
		require.NoError(t, err)
		return ch
	}
	texts := func(o *outbox) []string {
		var list []string
		for i, m := range o.take() {
			list = append(list, string(m.frame(int64(i))))
		}
		return list
	}
	o := newOutbox()
	assert.True(t, o.event(message{kind: "alarm", body: []byte(`{"event":1}`)}))
	o.values(changed("1"), nil)
	o.channel("c", []byte(`{"channel":1}`))
	assert.Empty(t, texts(o), "nothing comes before the snapshot")
	o.fail([]byte(`{"message":"down"}`))
	assert.Equal(t, []string{`{"type":"error","seq":0,"message":"down"}`}, texts(o), "but the reason for having none")
	o.snapshot([]byte(`{}`))
	assert.Equal(t, []string{`{"type":"snapshot","seq":0}`, `{"type":"alarm","seq":1,"event":1}`}, texts(o), "it replaces values and channels")

	o.values(changed("x", "1", "y", "1"), nil)
	o.values(changed("x", "2"), nil)
	o.channel("c", []byte(`{"channel":1}`))
	o.channel("c", []byte(`{"channel":2}`))
	assert.Equal(t, []string{
		`{"type":"channel","seq":0,"channel":2}`, `{"type":"values","seq":1,"values":{"a":{"x":2,"y":1}}}`,
	}, texts(o), "the latest wins")

	o.values(changed("1"), nil)
	assert.True(t, o.event(message{kind: "alarm", body: []byte(`{}`)}))
	o.snapshot([]byte(`{"models":{}}`))
	assert.Equal(t, []string{`{"type":"alarm","seq":0}`, `{"type":"snapshot","seq":1,"models":{}}`}, texts(o), "older events go first")

	o.hold()
	assert.True(t, o.event(message{kind: "alarm", body: []byte(`{"event":2}`)}))
	assert.Empty(t, texts(o), "kept back for the snapshot")
	o.snapshot([]byte(`{}`))
	assert.True(t, o.event(message{kind: "alarm", body: []byte(`{"event":3}`)}))
	o.hold()
	assert.True(t, o.event(message{kind: "alarm", body: []byte(`{"event":4}`)}))
	o.release()
	assert.Equal(t, []string{
		`{"type":"snapshot","seq":0}`, `{"type":"alarm","seq":1,"event":2}`,
		`{"type":"alarm","seq":2,"event":3}`, `{"type":"alarm","seq":3,"event":4}`,
	}, texts(o), "newer events go after it")
	o.hold()
	assert.True(t, o.event(message{kind: "alarm", body: []byte(`{}`)}))
	o.release()
	assert.Len(t, o.take(), 1, "not for ever")

	for range maxEvents {
		require.True(t, o.event(message{kind: "alarm"}))
	}
	assert.False(t, o.event(message{kind: "alarm"}))
	// From here on nothing is kept for it, whatever comes.
	o.values(changed("1"), nil)
	o.channel("c", nil)
	o.snapshot([]byte(`{}`))
	o.fail([]byte(`{}`))
	assert.False(t, o.event(message{kind: "alarm"}))
	assert.False(t, o.reply(message{kind: "subscribed"}))
	assert.Empty(t, o.take())

	o = newOutbox()
	for range maxReplies {
		require.True(t, o.reply(message{kind: "subscribed"}))
	}
	assert.False(t, o.reply(message{kind: "subscribed"}))
}

func TestErrorsAreProblems(t *testing.T) {
	t.Parallel()
	p := asProblem(errors.New("x"))
	assert.Equal(t, "500 Internal Server Error: internal error, see the log", p.Error())
}

// TestManyAtOnce has clients come and go while everything happens at once: for
// the race detector, and no client may miss or reorder an event.
func TestManyAtOnce(t *testing.T) {
	t.Parallel()
	site := newFakeSite()
	h := newHandler(t, site, nil)
	server := serve(t, h)
	over := make(chan struct{})
	var told, wg sync.WaitGroup
	for _, tell := range []func(int){
		func(i int) {
			site.setValue("pv", "temperature", func(v *model.Value) { v.Value = float64(i) })
			h.Update(model.Update{Model: "pv"})
		},
		func(i int) { h.Alarm(model.AlarmEvent{Value: float64(i)}) },
		func(i int) { h.Channel(model.ChannelStatus{ID: "1001", Reads: int64(i)}) },
		func(i int) {
			if i%20 == 0 {
				h.Resync()
			}
		},
	} {
		told.Go(func() {
			for i := 1; ; i++ {
				select {
				case <-over:
					return
				case <-time.After(100 * time.Microsecond):
					tell(i)
				}
			}
		})
	}
	for n := range 8 {
		wg.Go(func() {
			conn, _, err := websocket.Dial(context.Background(), server.URL+"/ws", nil)
			if !assert.NoError(t, err) {
				return
			}
			defer func() { _ = conn.CloseNow() }()
			conn.SetReadLimit(10 << 20)
			last := 0.0
			for events := 0; events < 50+10*n; {
				_, body, err := conn.Read(context.Background())
				var m received
				var ev model.AlarmEvent
				if !assert.NoError(t, err) || !assert.NoError(t, json.Unmarshal(body, &m)) {
					return
				}
				if m.Type != "alarm" || !assert.NoError(t, json.Unmarshal(m.Event, &ev)) {
					continue
				}
				if last != 0 {
					assert.Equal(t, last+1, ev.Value)
				}
				last = ev.Value
				events++
				if events%25 == 0 {
					assert.NoError(t, conn.Write(context.Background(), websocket.MessageText, []byte(`{"subscribe":{"models":["pv"]}}`)))
				}
			}
		})
	}
	wg.Wait()
	close(over)
	told.Wait()
}
