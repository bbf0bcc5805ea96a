package scripts

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/redis/go-redis/v9"

	"github.com/voltageems/voltage/model"
)

// plan is what batches are resolved with: every definition of the site under
// one mapping version. It is never changed once it is made.
type plan struct {
	version string
	digest  uint64
	routes  map[string]map[string][]route // channel → point → where it goes
	names   map[string][]string           // model → every name that a route leads to, sorted
	models  map[string]planModel
	points  map[string]map[string]model.Point // channel → point → definition
	index   map[string]string                 // model:point → rule ids, comma separated
	stored  map[string]string                 // the same as rules:index has it
	offline []string                          // channels that alarm rules watch, sorted
	// what every stored alarm rule says, by "model:point:rule"
	alarmDigests map[string]uint64
	problems     []string

	once      sync.Once // of instances, which are made when somebody asks
	instances map[string]model.Instance
}

type planModel struct {
	instance model.Instance
	kinds    map[string]model.Kind // of every bound name
	units    map[string]string
}

// route is one target of a channel point.
type route struct {
	model, name string
	kind        model.Kind
	alarms      []model.AlarmRule
	dependents  []model.AlarmRule // rules of other points that look at this one
	rules       []string
}

// stored is everything that definitions are read from, as it stands in Redis.
type stored struct {
	version          string
	c2m              map[string]string
	models           map[string]map[string]string
	enabled          map[string]bool
	alarmRules       map[string]map[string]string // "model:point" → id → JSON
	rules            map[string]map[string]string
	pointDefinitions map[string]map[string]string
	rulesIndex       map[string]string
}

// currentPlan returns the plan, loading it when there is none yet.
func (p *Plane) currentPlan(ctx context.Context) (*plan, error) {
	if pl := p.plan.Load(); pl != nil {
		return pl, nil
	}
	return p.loadPlan(ctx, nil)
}

// loadPlan returns a plan newer than stale, reading the definitions once for
// all who ask at the same time.
func (p *Plane) loadPlan(ctx context.Context, stale *plan) (*plan, error) {
	if err := p.planning.take(ctx); err != nil {
		return nil, err
	}
	defer p.planning.give()
	if pl := p.plan.Load(); stale != nil && pl != stale {
		return pl, nil
	}
	pl, err := p.readPlan(ctx)
	if err != nil {
		return nil, err
	}
	if before := p.plan.Load(); before != nil && olderMapping(pl.version, before.version) {
		p.behind.fell()
	}
	p.plan.Store(pl)
	return pl, nil
}

// readPlan reads all definitions under one version: when the version changed
// meanwhile, it reads again.
func (p *Plane) readPlan(ctx context.Context) (*plan, error) {
	for range 20 {
		s, err := p.readStored(ctx)
		if err != nil {
			return nil, err
		}
		version, err := p.client.Get(ctx, p.keys.mappingVersion()).Result()
		if err != nil && !isNil(err) {
			return nil, storeError("reading the mapping version", err)
		}
		if version != s.version {
			continue
		}
		if pl := p.plan.Load(); pl != nil && pl.version == version && pl.digest == s.digest() && maps.Equal(pl.stored, s.rulesIndex) {
			return pl, nil // nothing has changed, as nearly always
		}
		return newPlan(s), nil
	}
	return nil, fmt.Errorf("%w: the definitions changed at every one of 20 readings", ErrStore)
}

func (p *Plane) readStored(ctx context.Context) (*stored, error) {
	s := &stored{models: map[string]map[string]string{}, enabled: map[string]bool{}, alarmRules: map[string]map[string]string{},
		rules: map[string]map[string]string{}, pointDefinitions: map[string]map[string]string{}}
	version, err := p.client.Get(ctx, p.keys.mappingVersion()).Result()
	if err != nil && !isNil(err) {
		return nil, storeError("reading the mapping version", err)
	}
	s.version = version
	names, err := p.scanDefinitions(ctx)
	if err != nil {
		return nil, err
	}
	pipe := p.client.Pipeline()
	c2m, enabled, index := pipe.HGetAll(ctx, p.keys.c2m()), pipe.SMembers(ctx, p.keys.enabled()), pipe.HGetAll(ctx, p.keys.key("rules", "index"))
	hashes := make([]*redis.MapStringStringCmd, len(names))
	for i, name := range names {
		hashes[i] = pipe.HGetAll(ctx, name)
	}
	_, _ = pipe.Exec(ctx) // each command's own error is looked at: a key of a foreign type costs itself alone
	if err := errors.Join(c2m.Err(), enabled.Err(), index.Err()); err != nil {
		return nil, storeError("reading the definitions", err)
	}
	s.c2m, s.rulesIndex = c2m.Val(), index.Val()
	for _, id := range enabled.Val() {
		s.enabled[id] = true
	}
	for i, name := range names {
		h, err := hashes[i].Result()
		if err != nil {
			if !isAnswer(err) {
				return nil, storeError("reading "+name, err)
			}
			continue
		}
		owner, rest, _ := strings.Cut(strings.TrimPrefix(name, string(p.keys)), ":")
		switch {
		case owner == "model":
			s.models[rest] = h
		case owner == "point":
			s.pointDefinitions[rest] = h
		case owner == "rule":
			s.rules[rest] = h
		case owner == "alarm":
			s.alarmRules[strings.TrimPrefix(rest, "rules:")] = h
		}
	}
	return s, nil
}

// scanDefinitions lists the keys that hold definitions. It looks at every key
// of the node, for other programs may have added some.
func (p *Plane) scanDefinitions(ctx context.Context) ([]string, error) {
	node, err := p.nodeOf(ctx, p.anchor)
	if err != nil {
		return nil, err
	}
	seen := map[string]bool{}
	scan := node.Scan(ctx, 0, string(p.keys)+"[amrp][luo][adli]*", 2000).Iterator()
	for scan.Next(ctx) {
		name := scan.Val()
		parts := strings.Split(strings.TrimPrefix(name, string(p.keys)), ":")
		switch {
		case len(parts) == 2 && (parts[0] == "model" && parts[1] != "enabled" || parts[0] == "point" || parts[0] == "rule"):
		case len(parts) == 4 && parts[0] == "alarm" && parts[1] == "rules":
		default:
			continue
		}
		seen[name] = true
	}
	if err := scan.Err(); err != nil {
		return nil, storeError("listing the definitions", err)
	}
	// A node of a cluster that has not all of the site, because the slot moves or
	// has moved, says so here: the anchor does not exist, see guard in base.lua.
	if err := node.MGet(ctx, p.keys.generation(), p.keys.anchor()).Err(); err != nil {
		return nil, storeError("listing the definitions", err)
	}
	return slices.Sorted(maps.Keys(seen)), nil
}

// newPlan works out the routes. What is malformed is named and left out.
func newPlan(s *stored) *plan {
	pl := &plan{version: s.version, routes: map[string]map[string][]route{}, names: map[string][]string{}, models: map[string]planModel{},
		points: map[string]map[string]model.Point{}, index: map[string]string{}}
	pl.digest, pl.stored, pl.alarmDigests = s.digest(), s.rulesIndex, s.alarmDigests()
	complain := func(err error) { pl.problems = append(pl.problems, err.Error()) }

	for _, channel := range slices.Sorted(maps.Keys(s.pointDefinitions)) {
		pl.points[channel] = map[string]model.Point{}
		for id, text := range s.pointDefinitions[channel] {
			var pt model.Point
			if err := json.Unmarshal([]byte(text), &pt); err != nil {
				complain(fmt.Errorf("point %s of channel %s: %w", id, channel, err))
				continue
			}
			pl.points[channel][id] = pt
		}
	}
	for _, id := range slices.Sorted(maps.Keys(s.models)) {
		var m model.Instance
		if err := json.Unmarshal([]byte(s.models[id]["json"]), &m); err != nil {
			complain(fmt.Errorf("model %s: %w", id, err))
			continue
		}
		m.ID, m.Disabled = id, !s.enabled[id]
		pm := planModel{instance: m, kinds: map[string]model.Kind{}, units: map[string]string{}}
		for _, k := range model.Kinds() {
			for name, source := range m.Bindings(k) {
				ref, err := model.ParseRef(source)
				if err != nil {
					complain(fmt.Errorf("model %s: %s: %w", id, name, err))
					continue
				}
				pt, known := pl.points[ref.Owner][ref.Name]
				if !known {
					complain(fmt.Errorf("model %s: %s %s is bound to %s, which does not exist", id, k, name, source))
				} else if k.Writable() && !pt.Kind.Writable() {
					complain(fmt.Errorf("model %s: %s %s is bound to %s, which is a %s", id, k, name, source, pt.Kind))
				}
				pm.kinds[name], pm.units[name] = k, cmp.Or(pt.Unit, m.Points[name].Unit)
			}
		}
		pl.models[id] = pm
	}
	alarms := s.parseAlarmRules(complain)
	rules := s.parseRules(complain)
	targets := map[string]bool{}
	for _, list := range s.c2m {
		for target := range strings.SplitSeq(list, ",") {
			targets[target] = true
		}
	}
	dependents := pl.watch(alarms, targets, complain)
	for _, watched := range slices.Sorted(maps.Keys(rules)) {
		if !targets[watched] {
			complain(fmt.Errorf("rules %s look at %s: no such point is mapped", strings.Join(rules[watched], ", "), watched))
		}
	}
	for source, ids := range rules {
		pl.index[source] = strings.Join(ids, ",")
	}
	for _, source := range slices.Sorted(maps.Keys(s.c2m)) {
		from, err := model.ParseRef(source)
		if err != nil {
			complain(fmt.Errorf("mapping:c2m: %w", err))
			continue
		}
		for target := range strings.SplitSeq(s.c2m[source], ",") {
			to, err := model.ParseRef(target)
			if err != nil {
				complain(fmt.Errorf("mapping:c2m: target of %s: %w", source, err))
				continue
			}
			kind, bound := pl.models[to.Owner].kinds[to.Name]
			if !bound {
				kind = pl.points[from.Owner][from.Name].Kind
			}
			if pl.routes[from.Owner] == nil {
				pl.routes[from.Owner] = map[string][]route{}
			}
			pl.names[to.Owner] = append(pl.names[to.Owner], to.Name)
			pl.routes[from.Owner][from.Name] = append(pl.routes[from.Owner][from.Name],
				route{model: to.Owner, name: to.Name, kind: kind, alarms: alarms[target], dependents: dependents[target], rules: rules[target]})
		}
	}
	for id, names := range pl.names {
		slices.Sort(names)
		pl.names[id] = slices.Compact(names)
	}
	slices.Sort(pl.problems)
	return pl
}

// watch names what alarm rules look at and nothing leads to, notes the channels
// that they watch, and returns those that look at another point than their own,
// by that one. Rules of channels are left to the tick, and taken out.
func (pl *plan) watch(alarms map[string][]model.AlarmRule, mapped map[string]bool, complain func(error)) (dependents map[string][]model.AlarmRule) {
	dependents = map[string][]model.AlarmRule{}
	for _, watched := range slices.Sorted(maps.Keys(alarms)) {
		rules := alarms[watched]
		ofChannel := rules[0].Model == model.AlarmModelChannel
		switch id := rules[0].Point; {
		case !ofChannel && !mapped[watched]:
			complain(fmt.Errorf("alarm rules of %s: no such point is mapped", watched))
		case ofChannel && len(pl.points[id]) == 0:
			complain(fmt.Errorf("alarm rules of %s: there is no channel %s with points", watched, id))
		}
		for _, r := range rules {
			var others []string
			look := func(field string, ref model.Ref) {
				other := ref.String()
				if !mapped[other] {
					complain(fmt.Errorf("alarm rule %s of %s: %s %s: no such point is mapped", r.ID, watched, field, other))
				} else if other != watched && !slices.Contains(others, other) {
					others = append(others, other)
				}
			}
			if r.Operator == model.Deviation {
				look("reference", r.ReferencePoint())
			}
			if r.Enable != nil {
				look("enable", r.EnablePoint())
			}
			for _, other := range others {
				if !ofChannel {
					dependents[other] = append(dependents[other], r)
				}
			}
		}
		if ofChannel {
			pl.offline = append(pl.offline, rules[0].Point)
			delete(alarms, watched)
		}
	}
	return dependents
}

// OfflineChannels returns the ids of the channels that have alarm rules of their
// own (model.IsOffline), sorted, as the definitions were read last: those that
// AlarmTick is to look at. The list is not to be changed.
func (p *Plane) OfflineChannels() []string {
	if pl := p.plan.Load(); pl != nil {
		return pl.offline
	}
	return nil
}

// parseAlarmRules returns the rules that are to be checked, by "model:point".
func (s *stored) parseAlarmRules(complain func(error)) map[string][]model.AlarmRule {
	all := map[string][]model.AlarmRule{}
	for target, rules := range s.alarmRules {
		ref, err := model.ParseRef(target)
		if err != nil {
			complain(fmt.Errorf("alarm:rules: %w", err))
			continue
		}
		for _, id := range slices.Sorted(maps.Keys(rules)) {
			r, err := parseAlarmRule(ref.Owner, ref.Name, id, rules[id])
			if err != nil {
				complain(err)
			} else if !r.Disabled {
				all[target] = append(all[target], r)
			}
		}
	}
	return all
}

// parseRules returns the ids of the rules that look at a point, by "model:point".
func (s *stored) parseRules(complain func(error)) map[string][]string {
	all := map[string][]string{}
	for _, id := range slices.Sorted(maps.Keys(s.rules)) {
		r, err := parseRule(id, s.rules[id])
		if err != nil {
			complain(err)
			continue
		}
		if r.Disabled {
			continue
		}
		for _, source := range ruleSources(r) {
			all[source] = append(all[source], id)
		}
	}
	return all
}

// digest tells two states of the definitions apart.
func (s *stored) digest() uint64 {
	h := fnv.New64a()
	sum := func(name string, m map[string]string) {
		fmt.Fprintf(h, "\x00%s\x00", name)
		for _, k := range slices.Sorted(maps.Keys(m)) {
			fmt.Fprintf(h, "%s\x01%s\x01", k, m[k])
		}
	}
	sum("c2m", s.c2m)
	for i, group := range []map[string]map[string]string{s.models, s.alarmRules, s.rules, s.pointDefinitions} {
		fmt.Fprintf(h, "\x02%d", i)
		for _, name := range slices.Sorted(maps.Keys(group)) {
			sum(name, group[name])
		}
	}
	fmt.Fprint(h, slices.Sorted(maps.Keys(s.enabled)))
	return h.Sum64()
}

// Reconcile compares the definitions on the store with those that batches are
// resolved with, and makes every engine resolve anew when another program
// changed them without changing mapping:version. Alarm rules that changed are
// judged by the stored values with the next AlarmTick. The engine calls it every
// few seconds. It returns what is malformed and therefore left out.
func (p *Plane) Reconcile(ctx context.Context) (problems []string, err error) {
	if problems, err = p.reconcile(ctx); err != nil {
		return problems, err
	}
	return problems, p.judgeChanged(ctx)
}

func (p *Plane) reconcile(ctx context.Context) (problems []string, err error) {
	if generation, err := p.client.Get(ctx, p.keys.generation()).Result(); err != nil && !isNil(err) {
		return nil, storeError("reading the site's generation", err)
	} else if known := *p.generation.Load(); generation != known {
		if err := p.recover(ctx, known); err != nil {
			return nil, err
		}
	}
	if err := p.catchUp(ctx); err != nil {
		return nil, err
	}
	before := p.plan.Load()
	now, err := p.readPlan(ctx)
	if err != nil {
		return nil, err
	}
	if before != nil && now.version == before.version && (now.digest != before.digest || !now.indexed()) {
		p.log.Info("another program changed definitions; batches are resolved anew", "site", p.options.Site)
		if err := p.touch(ctx, now.index); err != nil {
			return now.problems, err
		}
		_, err = p.loadPlan(ctx, before)
		return now.problems, err
	}
	if before == nil || now.version != before.version {
		_, err = p.loadPlan(ctx, before)
	}
	return now.problems, err
}

// indexed reports whether rules:index, by which the hand-callable form finds the
// rules of a point, has every rule. More than that does no harm.
func (pl *plan) indexed() bool {
	for source, ids := range pl.index {
		known := strings.Split(pl.stored[source], ",")
		for id := range strings.SplitSeq(ids, ",") {
			if !slices.Contains(known, id) {
				return false
			}
		}
	}
	return true
}

// Models returns the definitions of all models, by id.
func (p *Plane) Models(ctx context.Context) ([]model.Instance, error) {
	pl, err := p.freshPlan(ctx)
	if err != nil {
		return nil, err
	}
	list := make([]model.Instance, 0, len(pl.models))
	for _, id := range slices.Sorted(maps.Keys(pl.models)) {
		list = append(list, pl.models[id].instance.Clone())
	}
	return list, nil
}

// freshPlan returns the plan of the version that the store has now, or had at
// some moment of the call.
func (p *Plane) freshPlan(ctx context.Context) (*plan, error) {
	pl, err := p.currentPlan(ctx)
	if err != nil {
		return nil, err
	}
	for range 20 {
		version, err := p.client.Get(ctx, p.keys.mappingVersion()).Result()
		if err != nil && !isNil(err) {
			return nil, storeError("reading the mapping version", err)
		}
		if version == pl.version {
			return pl, nil
		}
		// What others load at this moment may be older than this version: look again.
		if pl, err = p.loadPlan(ctx, pl); err != nil {
			return nil, err
		}
	}
	return nil, fmt.Errorf("%w: the definitions changed at every one of 20 readings", ErrStore)
}

// Reload takes notice of changed definitions at once, instead of with the next
// batch or Reconcile.
func (p *Plane) Reload(ctx context.Context) error {
	_, err := p.freshPlan(ctx)
	return err
}
