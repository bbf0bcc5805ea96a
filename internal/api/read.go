package api

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/voltageems/voltage/model"
	"github.com/voltageems/voltage/scripts"
)

// health answers as long as the process serves HTTP: it asks nobody.
func (h *Handler) health(w http.ResponseWriter, _ *http.Request) error {
	return h.ok(w, map[string]string{"status": "ok"})
}

// readyTimeout is shorter than what usual probes wait, so that they get a reason.
const readyTimeout = 2 * time.Second

func (h *Handler) ready(w http.ResponseWriter, r *http.Request) error {
	ctx, cancel := context.WithTimeout(r.Context(), readyTimeout)
	defer cancel()
	if err := h.site.Ready(ctx); err != nil {
		return problemf(http.StatusServiceUnavailable, "not ready: %v", err)
	}
	return h.ok(w, map[string]string{"status": "ready"})
}

// pathID returns a part of the path that is an id.
func pathID(r *http.Request, part, what string) (string, error) {
	id := r.PathValue(part)
	return id, model.CheckID(what, id)
}

func (h *Handler) channels(w http.ResponseWriter, r *http.Request) error {
	ctx, cancel := limited(r)
	defer cancel()
	channels, err := h.site.Channels(ctx)
	if err != nil {
		return err
	}
	return h.ok(w, map[string]any{"channels": list(channels)})
}

// servers asks nobody: this process runs them.
func (h *Handler) servers(w http.ResponseWriter, _ *http.Request) error {
	return h.ok(w, map[string]any{"servers": list(h.site.Servers())})
}

// findChannel returns the channel that the path names.
func (h *Handler) findChannel(ctx context.Context, r *http.Request) (model.ChannelStatus, error) {
	id, err := pathID(r, "id", "channel")
	if err != nil {
		return model.ChannelStatus{}, err
	}
	channels, err := h.site.Channels(ctx)
	if err != nil {
		return model.ChannelStatus{}, err
	}
	for _, c := range channels {
		if c.ID == id {
			return c, nil
		}
	}
	return model.ChannelStatus{}, problemf(http.StatusNotFound, "there is no channel %s", id)
}

func (h *Handler) channel(w http.ResponseWriter, r *http.Request) error {
	ctx, cancel := limited(r)
	defer cancel()
	c, err := h.findChannel(ctx, r)
	if err != nil {
		return err
	}
	return h.ok(w, c)
}

// demand answers as soon as the driver was told: the values come as always.
func (h *Handler) demand(w http.ResponseWriter, r *http.Request) error {
	id, err := pathID(r, "id", "channel")
	if err != nil {
		return err
	}
	var points []string
	if err := readBody(w, r, true, map[string]any{"points": &points}); err != nil {
		return err
	}
	if err := h.site.Demand(id, points...); err != nil {
		return err
	}
	h.write(w, http.StatusAccepted, "application/json", map[string]string{"status": "asked"})
	return nil
}

func (h *Handler) channelValues(w http.ResponseWriter, r *http.Request) error {
	ctx, cancel := limited(r)
	defer cancel()
	// The store answers for a channel that does not exist with no values.
	c, err := h.findChannel(ctx, r)
	if err != nil {
		return err
	}
	values, err := h.site.ChannelValues(ctx, c.ID)
	if err != nil {
		return err
	}
	forms := make(map[string]valueForm, len(values))
	for id, v := range values {
		forms[id] = newChannelValueForm(v)
	}
	return h.ok(w, map[string]any{"channel": c.ID, "values": forms})
}

func (h *Handler) models(w http.ResponseWriter, r *http.Request) error {
	ctx, cancel := limited(r)
	defer cancel()
	return h.cached(ctx, w, r, scripts.ModelsAnswer(), func() (any, error) {
		models, err := h.site.Models(ctx)
		if err != nil {
			return nil, err
		}
		forms := make([]modelForm, len(models))
		for i, m := range models {
			forms[i] = newModelForm(h.site, m)
		}
		return map[string]any{"models": forms}, nil
	})
}

func (h *Handler) model(w http.ResponseWriter, r *http.Request) error {
	ctx, cancel := limited(r)
	defer cancel()
	id, err := pathID(r, "id", "model")
	if err != nil {
		return err
	}
	models, err := h.site.Models(ctx)
	if err != nil {
		return err
	}
	for _, m := range models {
		if m.ID == id {
			return h.ok(w, newModelForm(h.site, m))
		}
	}
	return problemf(http.StatusNotFound, "there is no model %s", id)
}

func (h *Handler) modelValues(w http.ResponseWriter, r *http.Request) error {
	ctx, cancel := limited(r)
	defer cancel()
	id, err := pathID(r, "id", "model")
	if err != nil {
		return err
	}
	return h.cached(ctx, w, r, scripts.ValuesAnswer(id), func() (any, error) {
		values, err := h.site.Values(ctx, id)
		if err != nil {
			return nil, fmt.Errorf("reading the values of model %s: %w", id, err)
		}
		forms := make(map[string]valueForm, len(values))
		for name, v := range values {
			forms[name] = newValueForm(v)
		}
		return map[string]any{"model": id, "values": forms}, nil
	})
}
