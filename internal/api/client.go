package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/coder/websocket"

	"github.com/voltageems/voltage/model"
)

const (
	// heartbeatInterval is how often a client is sent a sign of life, and is
	// asked for one, when nothing else happens or not.
	heartbeatInterval = 15 * time.Second
	// writeTimeout is how long a client may take to accept one message, or to
	// answer a ping.
	writeTimeout = 10 * time.Second
	// maxClientMessage is the largest message of a client, in bytes.
	maxClientMessage = maxBody
	// maxSubscribed is how many models a client may name.
	maxSubscribed = 1000
)

// subprotocol is what the messages are called. A browser names it beside the one
// with its credential, of which the answer must not speak.
const subprotocol = "voltage"

// Codes with which a WebSocket is closed, beside those of RFC 6455.
const closeExpired websocket.StatusCode = 4001 // the credential has expired

// client is one WebSocket.
type client struct {
	hub    *hub
	conn   *websocket.Conn
	cancel context.CancelCauseFunc // cuts the connection
	out    *outbox
	// expires is when the credential ends; zero means never.
	expires time.Time

	// Under hub.mu:
	wants  bool                // a snapshot
	asked  int                 // how often it asked for one
	models map[string]struct{} // nil: all; replaced, never changed
}

// request is what a client waits for while the values are read.
type request struct {
	models map[string]struct{}
	nth    int
}

// request notes what the client waits for. Events from here on are kept back
// until the snapshot is there. The caller holds hub.mu.
func (c *client) request() request {
	c.out.hold()
	return request{c.models, c.asked}
}

// follows reports whether the client wants the values of a model.
func (c *client) follows(id string) bool {
	_, ok := c.models[id]
	return ok || c.models == nil
}

// webSocket serves one client until it goes or is sent away.
func (h *Handler) webSocket(w http.ResponseWriter, r *http.Request) error {
	if !strings.EqualFold(r.Header.Get("Upgrade"), "websocket") {
		w.Header().Set("Connection", "Upgrade")
		w.Header().Set("Upgrade", "websocket")
		return problemf(http.StatusUpgradeRequired, "this path is a WebSocket")
	}
	if err := h.hub.reserve(); err != nil {
		return err
	}
	defer h.hub.release()
	conn, err := websocket.Accept(w, r, &websocket.AcceptOptions{Subprotocols: []string{subprotocol}})
	if err != nil {
		return nil // Accept answered
	}
	conn.SetReadLimit(maxClientMessage)
	// Not the request's context: net/http does not end it any more once the
	// connection is a WebSocket.
	ctx, cancel := context.WithCancelCause(h.hub.ctx)
	c := &client{hub: h.hub, conn: conn, cancel: cancel, out: newOutbox(), expires: accessOf(r).identity.Expires}
	h.hub.add(c)
	written := make(chan struct{})
	go func() {
		defer close(written)
		cancel(c.write(ctx))
	}()
	cancel(c.read(ctx))
	h.hub.remove(c)
	<-written
	_ = conn.CloseNow() // it is closed already in most cases
	if errors.Is(context.Cause(ctx), errSlow) {
		h.log.Warn("WebSocket client disconnected", "client", r.RemoteAddr, "reason", errSlow)
	}
	return nil
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
		case <-c.out.wake:
			for _, m := range c.out.take() {
				if err := send(m); err != nil {
					return err
				}
			}
		case <-beat:
			// The message is for scripts in browsers, which do not see pings; the
			// ping finds clients that are gone without a word.
			body := fmt.Appendf(nil, `{"now":%d}`, c.hub.clock.Now().UnixMilli())
			if err := send(message{"heartbeat", body}); err != nil {
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

// read follows what the client asks for. It returns why it ended.
func (c *client) read(ctx context.Context) error {
	for {
		kind, body, err := c.conn.Read(ctx)
		if err != nil {
			return err
		}
		if kind != websocket.MessageText {
			c.out.fail(errorBody("send text messages"))
			continue
		}
		models, err := parseSubscribe(body)
		if err != nil {
			p := asProblem(err)
			c.out.fail(errorBody(p.Detail))
			continue
		}
		c.hub.subscribe(c, models)
	}
}

// parseSubscribe reads {"subscribe":{"models":["pcs1"]}}. Nil means all models.
func parseSubscribe(body []byte) (map[string]struct{}, error) {
	var subscribe json.RawMessage
	if err := decodeObject(body, map[string]any{"subscribe": &subscribe}); err != nil {
		return nil, err
	}
	if subscribe == nil {
		return nil, problemf(http.StatusBadRequest, `field "subscribe" is missing`)
	}
	var ids []string
	if err := decodeObject(subscribe, map[string]any{"models": &ids}); err != nil {
		return nil, err
	}
	if ids == nil {
		return nil, nil
	}
	if len(ids) > maxSubscribed {
		return nil, problemf(http.StatusBadRequest, "%d models: at most %d", len(ids), maxSubscribed)
	}
	models := make(map[string]struct{}, len(ids))
	for _, id := range ids {
		if err := model.CheckID("model", id); err != nil {
			return nil, err
		}
		models[id] = struct{}{}
	}
	return models, nil
}
