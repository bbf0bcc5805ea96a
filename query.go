package voltage

import (
	"context"

	"github.com/voltageems/voltage/model"
	"github.com/voltageems/voltage/scripts"
)

// Values returns the current values of a model's points, by name; a point that
// never had a good value has the zero Time. scripts.ErrNotFound when there is no
// such model.
func (e *Engine) Values(ctx context.Context, modelID string) (map[string]model.Value, error) {
	if _, ok := e.running(); !ok {
		return nil, ErrNotRunning
	}
	return e.plane.Values(ctx, modelID)
}

// ChannelValues returns the current values of a channel's points, by point id.
func (e *Engine) ChannelValues(ctx context.Context, id string) (map[string]model.Value, error) {
	if _, ok := e.running(); !ok {
		return nil, ErrNotRunning
	}
	return e.plane.ChannelValues(ctx, id)
}

// Models returns the site's models, also those of other engines, by id.
func (e *Engine) Models(ctx context.Context) ([]model.Instance, error) {
	if _, ok := e.running(); !ok {
		return nil, ErrNotRunning
	}
	return e.plane.Models(ctx)
}

// Channels returns the state of the site's channels, also of other engines', by id.
func (e *Engine) Channels(ctx context.Context) ([]model.ChannelStatus, error) {
	if _, ok := e.running(); !ok {
		return nil, ErrNotRunning
	}
	ids, err := e.plane.Channels(ctx)
	if err != nil {
		return nil, err
	}
	list := make([]model.ChannelStatus, 0, len(ids))
	for _, id := range ids {
		if r := e.runners.get(id); r != nil {
			if s := r.Status(); s.State != model.ChannelStandby {
				list = append(list, s)
				continue
			}
		}
		fields, owner, err := e.plane.ChannelStatus(ctx, id)
		if err != nil {
			return nil, err
		}
		s := scripts.ParseStatus(id, fields, owner)
		if c, ok := e.registry.channel(id); ok {
			s.Name = c.Title()
		}
		list = append(list, s)
	}
	return list, nil
}

// RunRule evaluates a rule now and reports whether it acted.
func (e *Engine) RunRule(ctx context.Context, id string) (ran bool, notes []string, err error) {
	if _, ok := e.running(); !ok {
		return false, nil, ErrNotRunning
	}
	return e.book.Run(ctx, id)
}

// Plane is the data plane that the engine runs on, for programs that need more
// than the engine offers. Nil while the engine does not run.
func (e *Engine) Plane() *scripts.Plane {
	if _, ok := e.running(); !ok {
		return nil
	}
	return e.plane
}
