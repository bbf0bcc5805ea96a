package api

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"

	"github.com/voltageems/voltage/internal/auth"
)

const (
	// heartbeatInterval is how often a client is sent a sign of life, and is
	// asked for one, when nothing else happens or not.
	heartbeatInterval = 15 * time.Second
	// writeTimeout is how long a client may take to accept one message, or to
	// answer a ping.
	writeTimeout = 10 * time.Second
	// maxClientMessage is the largest message of a client, in bytes.
	maxClientMessage = 256 << 10
	// A client may send so many messages at once, and so many a second.
	messageBurst, messageRate = 20, 2
)

// subprotocol is what the messages are called. A browser names it beside the one
// with its credential, of which the answer must not speak.
const subprotocol = "voltage"

// Codes with which a WebSocket is closed, beside those of RFC 6455.
const (
	closeSlow    websocket.StatusCode = 4000 // it did not take alarms and commands fast enough
	closeExpired websocket.StatusCode = 4001 // its credential has expired
)

// errMany ends a client that sends too much.
var errMany = errors.New("the client sends too many messages")

// client is one WebSocket.
type client struct {
	hub    *hub
	conn   *websocket.Conn
	cancel context.CancelCauseFunc // cuts the connection
	out    *outbox
	// expires is when the credential ends; zero means never.
	expires time.Time

	// sent is closed when the client is sent away; away is the reason.
	sent chan struct{}
	away atomic.Pointer[error]

	// Under hub.mu:
	wants bool // a snapshot
	asked int  // how often it asked for one
	sub   *subscription
}

// request is what a client waits for while the values are read.
type request struct {
	sub *subscription
	nth int
}

// request notes what the client waits for. Events from here on are kept back
// until the snapshot is there. The caller holds hub.mu.
func (c *client) request() request {
	c.out.hold()
	return request{c.sub, c.asked}
}

// webSocket serves one client until it goes or is sent away.
func (h *Handler) webSocket(w http.ResponseWriter, r *http.Request) error {
	since, err := parseResume(r.URL.Query())
	if err != nil {
		return err
	}
	if !handshake(r) {
		w.Header().Set("Connection", "Upgrade")
		w.Header().Set("Upgrade", "websocket")
		return problemf(http.StatusUpgradeRequired, "this path is a WebSocket, version 13")
	}
	id := accessOf(r).identity
	if err := h.hub.reserve(id.Name); err != nil {
		return err
	}
	defer h.hub.release(id.Name)
	conn, err := websocket.Accept(w, r, &websocket.AcceptOptions{Subprotocols: []string{subprotocol}})
	if err != nil {
		return nil // Accept answered
	}
	conn.SetReadLimit(maxClientMessage)
	// Not the request's context: net/http does not end it any more once the
	// connection is a WebSocket.
	ctx, cancel := context.WithCancelCause(h.hub.ctx)
	c := &client{hub: h.hub, conn: conn, cancel: cancel, out: newOutbox(), expires: id.Expires, sent: make(chan struct{}), sub: everything}
	c.out.resuming = since.asked()
	h.hub.add(c)
	if since.asked() {
		// What happens from here on waits in the outbox.
		c.out.resume(h.hub.replay(ctx, since))
	}
	written := make(chan struct{})
	go func() {
		defer close(written)
		cancel(c.write(ctx))
	}()
	cancel(c.read(ctx))
	h.hub.remove(c)
	<-written
	_ = conn.CloseNow() // it is closed already in most cases
	if why := c.away.Load(); why != nil {
		h.log.Warn("WebSocket client disconnected", "client", r.RemoteAddr, "who", id.Named(), "reason", *why)
	}
	return nil
}

// handshake reports whether a request asks for a WebSocket as RFC 6455, 4.2.1, wants it.
func handshake(r *http.Request) bool {
	upgrade := false
	for _, list := range r.Header.Values("Connection") {
		for one := range strings.SplitSeq(list, ",") {
			upgrade = upgrade || strings.EqualFold(strings.TrimSpace(one), "upgrade")
		}
	}
	key, err := base64.StdEncoding.DecodeString(r.Header.Get("Sec-WebSocket-Key"))
	return upgrade && strings.EqualFold(r.Header.Get("Upgrade"), "websocket") &&
		r.Header.Get("Sec-WebSocket-Version") == "13" && err == nil && len(key) == 16
}

// write sends what is in the outbox, and signs of life. It returns why it ended.
func (c *client) write(ctx context.Context) error {
	var seq int64
	send := func(m message) error {
		ctx, cancel := context.WithTimeout(ctx, writeTimeout)
		defer cancel()
		seq++
		return c.conn.Write(ctx, websocket.MessageText, m.frame(seq))
	}
	beat := c.hub.clock.After(heartbeatInterval)
	var expired <-chan time.Time
	if !c.expires.IsZero() {
		expired = c.hub.clock.After(c.expires.Sub(c.hub.clock.Now()))
	}
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-c.hub.active.Done():
			return c.conn.Close(websocket.StatusGoingAway, "the engine is being stopped")
		case <-expired:
			return c.conn.Close(closeExpired, "the credential has expired")
		case <-c.sent:
			return c.closeAway()
		case <-c.out.wake:
			for _, m := range c.out.take() {
				if c.away.Load() != nil {
					return c.closeAway()
				}
				if err := send(m); err != nil {
					return err
				}
			}
		case <-beat:
			// The message is for scripts in browsers, which do not see pings; the
			// ping finds clients that are gone without a word.
			body := fmt.Appendf(nil, `{"now":%d}`, c.hub.clock.Now().UnixMilli())
			if err := send(message{kind: "heartbeat", body: body}); err != nil {
				return err
			}
			if err := c.ping(ctx); err != nil {
				return err
			}
			beat = c.hub.clock.After(heartbeatInterval)
		}
	}
}

func (c *client) ping(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	return c.conn.Ping(ctx)
}

// closeAway tells the client why it is sent away.
func (c *client) closeAway() error {
	why := *c.away.Load()
	code := closeSlow
	if errors.Is(why, errMany) {
		code = websocket.StatusPolicyViolation
	}
	return c.conn.Close(code, why.Error())
}

// read follows what the client asks for. It returns why it ended.
func (c *client) read(ctx context.Context) error {
	rate := auth.NewLimiter(c.hub.clock, messageRate, messageBurst)
	for {
		kind, body, err := c.conn.Read(ctx)
		if err != nil {
			return err
		}
		if rate.Take("") > 0 {
			return c.dismissed(ctx, errMany)
		}
		var id json.RawMessage
		var sub *subscription
		if kind != websocket.MessageText {
			err = problemf(http.StatusBadRequest, "send text messages")
		} else {
			id, sub, err = parseMessage(body)
		}
		answer := message{kind: "subscribed", body: replyBody(id, "")}
		if err != nil {
			p := asProblem(err)
			answer = message{kind: "error", body: replyBody(id, p.Detail)}
		}
		if !c.out.reply(answer) {
			return c.dismissed(ctx, errSlow)
		}
		if err == nil {
			c.hub.subscribe(c, sub)
		}
	}
}

// dismissed sends the client away and waits until that is done.
func (c *client) dismissed(ctx context.Context, why error) error {
	c.hub.mu.Lock()
	c.hub.sendAway(c, why)
	c.hub.mu.Unlock()
	<-ctx.Done()
	return ctx.Err()
}

// replyBody is the answer to a message of the client.
func replyBody(id json.RawMessage, text string) []byte {
	body, _ := json.Marshal(struct { // both always encode
		ID      json.RawMessage `json:"id,omitempty"`
		Message string          `json:"message,omitempty"`
	}{id, text})
	return body
}
