package reference

// ruleEngine is rule_engine: one rule, now.
func (r *run) ruleEngine() []string {
	if inactive := r.guard(0, 0); inactive != nil {
		return inactive
	}
	id, ok := r.opt(1)
	if !ok {
		return []string{"INVALID", "want: <rule id>"}
	}
	report := []string{"OK", "idle"}
	if r.ruleRun(r.nowArg(2), id, true, &report, &report) {
		report[1] = "ran"
	}
	return report
}
