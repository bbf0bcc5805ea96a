package reference

// alarmCheckScript is alarm_check: the alarm rules of one point against one value.
func (r *run) alarmCheckScript() []string {
	if inactive := r.guard(0, 0); inactive != nil {
		return inactive
	}
	model, hasModel := r.opt(1)
	point, hasPoint := r.opt(2)
	value, _ := r.opt(3)
	x, ok := alarmGiven(value)
	if !hasModel || !hasPoint || !ok {
		return []string{"INVALID", "want: <model> <point> <value>"}
	}
	report := []string{"OK"}
	r.alarmCheck(r.nowArg(4), model, point, x, &report)
	return report
}
