package scripts

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/voltageems/voltage/model"
)

// RunRule evaluates a rule now and acts when its conditions are true, also when
// they were true before. It reports whether it acted. Unlike other calls it is
// not repeated after a lost reply, for it would act again.
func (p *Plane) RunRule(ctx context.Context, id string) (ran bool, notes []string, err error) {
	if err := model.CheckID("rule", id); err != nil {
		return false, nil, err
	}
	s := p.scripts["rule_engine"]
	for attempt := 0; ; attempt++ {
		script := s.active.Load()
		args := append(p.head(nil, script), id, p.now())
		reply, again, err := p.send(ctx, s, script, args, 0, attempt, *p.generation.Load(), false)
		if again && err == nil {
			continue
		}
		if err == nil {
			err = codeError("rule_engine", reply)
		}
		if err == nil && len(reply) < 2 {
			err = fmt.Errorf("%w rule_engine: the answer has %d texts, at least 2 are wanted", ErrScript, len(reply))
		}
		if err != nil {
			if isFault(nil, err) && !(len(reply) > 0 && reply[0] == "INVALID") {
				p.judge(ctx, s, script, err, attempt) // without another try, which would act again
			}
			return false, nil, err
		}
		return reply[1] == "ran", reply[2:], nil
	}
}

// RuleStats says how often a rule acted.
type RuleStats struct {
	Executions    int64
	LastExecution time.Time // zero when it never acted
}

// RuleStats returns the statistics of a rule.
func (p *Plane) RuleStats(ctx context.Context, id string) (RuleStats, error) {
	h, err := p.client.HGetAll(ctx, p.keys.ruleStats(id)).Result()
	if err != nil {
		return RuleStats{}, storeError("reading the statistics of rule "+id, err)
	}
	n, _ := strconv.ParseInt(h["execution_count"], 10, 64)
	return RuleStats{Executions: n, LastExecution: millis(h["last_execution"])}, nil
}

// parseRule reads a stored rule as any program may have written it: a
// condition may name its point as key and field, "modsrv:<model>:<kind>" and a
// name. Conditions on other keys are for rules that are run by hand.
func parseRule(id string, h map[string]string) (model.Rule, error) {
	r := model.Rule{ID: id, Name: h["name"], Disabled: h["disabled"] == "1"}
	var conditions []struct {
		Model     string         `json:"model_id"`
		Point     string         `json:"point_name"`
		Key       string         `json:"key"`
		Field     string         `json:"field"`
		Operator  model.Operator `json:"operator"`
		Threshold looseNumber    `json:"threshold"`
	}
	if err := json.Unmarshal([]byte(h["conditions"]), &conditions); err != nil {
		return r, fmt.Errorf("%w: rule %s: conditions: %w", model.ErrInvalid, id, err)
	}
	for _, c := range conditions {
		if c.Key != "" {
			parts := strings.Split(c.Key, ":")
			if len(parts) != 3 || parts[0] != "modsrv" {
				return r, fmt.Errorf("%w: rule %s: a condition on %.140q: only points of models are followed, the rule runs by hand alone", model.ErrInvalid, id, c.Key)
			}
			c.Model, c.Point = parts[1], c.Field
		}
		r.Conditions = append(r.Conditions, model.Condition{Model: c.Model, Point: c.Point, Operator: c.Operator, Threshold: c.Threshold.value})
	}
	var actions []struct {
		Type     model.ActionType `json:"type"`
		Model    string           `json:"model_id"`
		Control  string           `json:"control_name"`
		Value    looseNumber      `json:"value"`
		Severity model.Severity   `json:"severity"`
		Message  string           `json:"message"`
	}
	if err := json.Unmarshal([]byte(h["actions"]), &actions); err != nil {
		return r, fmt.Errorf("%w: rule %s: actions: %w", model.ErrInvalid, id, err)
	}
	for _, a := range actions {
		r.Actions = append(r.Actions, model.Action{Type: a.Type, Model: a.Model, Control: a.Control,
			Value: a.Value.value, Severity: a.Severity, Message: a.Message})
	}
	return r, r.Validate()
}
