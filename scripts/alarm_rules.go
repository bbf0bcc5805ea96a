package scripts

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/redis/go-redis/v9"

	"github.com/voltageems/voltage/model"
)

// AlarmRule returns one stored rule. ErrNotFound when there is none,
// model.ErrInvalid with what is wrong when it is malformed.
func (p *Plane) AlarmRule(ctx context.Context, modelID, point, id string) (model.AlarmRule, error) {
	text, err := p.client.HGet(ctx, p.keys.alarmRules(modelID, point), id).Result()
	if isNil(err) {
		return model.AlarmRule{}, fmt.Errorf("alarm rule %.64q of %.64q:%.64q: %w", id, modelID, point, ErrNotFound)
	}
	if err != nil {
		return model.AlarmRule{}, storeError("reading alarm rule "+model.AlarmRef(modelID, point, id), err)
	}
	return parseAlarmRule(modelID, point, id, text)
}

// AllAlarmRules returns every rule that is stored, by model, point and id, those
// that are disabled too. problems name the malformed ones, which are left out. It
// looks at every key of the site's store, as the reconciliation does.
func (p *Plane) AllAlarmRules(ctx context.Context) (rules []model.AlarmRule, problems []string, err error) {
	all, err := p.scanDefinitions(ctx)
	if err != nil {
		return nil, nil, err
	}
	prefix := p.keys.key("alarm", "rules") + ":"
	names := slices.DeleteFunc(all, func(name string) bool { return !strings.HasPrefix(name, prefix) })
	rules = []model.AlarmRule{}
	for some := range slices.Chunk(names, alarmsAtOnce) {
		pipe := p.client.Pipeline()
		hashes := make([]*redis.MapStringStringCmd, len(some))
		for i, name := range some {
			hashes[i] = pipe.HGetAll(ctx, name)
		}
		_, _ = pipe.Exec(ctx) // each command's own error is looked at
		for i, name := range some {
			h, err := hashes[i].Result()
			if err != nil && !isAnswer(err) {
				return nil, nil, storeError("reading "+name, err)
			}
			if err != nil {
				problems = append(problems, fmt.Sprintf("%s holds no alarm rules: %v", strings.TrimPrefix(name, string(p.keys)), err))
			}
			modelID, point, _ := strings.Cut(strings.TrimPrefix(name, prefix), ":")
			for id, text := range h {
				r, err := parseAlarmRule(modelID, point, id, text)
				if err != nil {
					problems = append(problems, err.Error())
					continue
				}
				rules = append(rules, r)
			}
		}
	}
	slices.SortFunc(rules, func(a, b model.AlarmRule) int {
		return cmp.Or(cmp.Compare(a.Model, b.Model), cmp.Compare(a.Point, b.Point), cmp.Compare(a.ID, b.ID))
	})
	slices.Sort(problems)
	return rules, problems, nil
}
