package notify

import (
	"fmt"
	"strings"

	"github.com/voltageems/voltage/model"
)

// builtIn are the texts in English and Chinese. They are plain code, for package
// text/template costs a firmware 6 MB.
type builtIn struct{}

// words are what the texts are made of, by language.
type words struct {
	severity   map[model.Severity]string
	transition map[model.AlarmTransition]string
	status     map[model.AlarmStatus]string
	// labels of the lines
	what, site, point, rule, value, limit, state, by, at, id, escalated, more, notification, test, testText, summary string
}

var texts = map[Language]words{
	English: {
		severity: map[model.Severity]string{model.Low: "low", model.Medium: "medium", model.High: "high", model.Critical: "CRITICAL"},
		transition: map[model.AlarmTransition]string{
			model.TransitionRaised: "raised", model.TransitionReraised: "raised again", model.TransitionCleared: "returned to normal", model.TransitionLatched: "returned to normal, latched",
			model.TransitionAcknowledged: "acknowledged", model.TransitionReset: "reset", model.TransitionClosed: "closed by hand", model.TransitionShelved: "shelved",
			model.TransitionUnshelved: "no longer shelved", model.TransitionSuppressed: "suppressed", model.TransitionUnsuppressed: "no longer suppressed",
			model.TransitionOutOfService: "out of service", model.TransitionInService: "in service again", model.TransitionChattering: "chattering"},
		status: map[model.AlarmStatus]string{model.AlarmActive: "active, not acknowledged", model.AlarmAcknowledged: "acknowledged", model.AlarmCleared: "returned, not acknowledged",
			model.AlarmLatched: "latched, wants a reset", model.AlarmClosed: "closed"},
		what: "Event", site: "Site", point: "Point", rule: "Rule", value: "Value", limit: "Limit", state: "Status", by: "By", at: "Time", id: "Alarm",
		escalated: "not acknowledged for %s", more: "and %d more messages", notification: "notification", test: "test", summary: "%d more messages",
		testText: "This is a test of the notifications. Nothing is wrong."},
	Chinese: {
		severity: map[model.Severity]string{model.Low: "低", model.Medium: "中", model.High: "高", model.Critical: "紧急"},
		transition: map[model.AlarmTransition]string{
			model.TransitionRaised: "报警", model.TransitionReraised: "再次报警", model.TransitionCleared: "已恢复", model.TransitionLatched: "已恢复(锁存)",
			model.TransitionAcknowledged: "已确认", model.TransitionReset: "已复位", model.TransitionClosed: "已手动关闭", model.TransitionShelved: "已搁置",
			model.TransitionUnshelved: "搁置结束", model.TransitionSuppressed: "已抑制", model.TransitionUnsuppressed: "抑制结束",
			model.TransitionOutOfService: "已停用", model.TransitionInService: "恢复使用", model.TransitionChattering: "频繁抖动"},
		status: map[model.AlarmStatus]string{model.AlarmActive: "活动,未确认", model.AlarmAcknowledged: "已确认", model.AlarmCleared: "已恢复,未确认",
			model.AlarmLatched: "锁存,等待复位", model.AlarmClosed: "已关闭"},
		what: "事件", site: "站点", point: "测点", rule: "规则", value: "数值", limit: "限值", state: "状态", by: "操作人", at: "时间", id: "报警编号",
		escalated: "超过 %s 未确认", more: "另有 %d 条消息", notification: "通知", test: "测试", summary: "另有 %d 条消息",
		testText: "这是一条通知测试消息,没有发生任何故障。"},
}

// or returns the word for a value, or the value itself.
func or[T ~string](m map[T]string, v T) string {
	if s := m[v]; s != "" {
		return s
	}
	return string(v)
}

// timeForm is that of times for people, in the time zone of the machine.
const timeForm = "2006-01-02 15:04:05 MST"

// Render implements Texts.
func (builtIn) Render(m Message) (subject, body string, err error) {
	w, ok := texts[m.Language]
	if !ok {
		w = texts[English]
	}
	subject = "[" + or(w.severity, m.Severity) + "] "
	if m.Site != "" {
		subject += m.Site + ": "
	}
	subject += w.headline(m)
	var b strings.Builder
	b.WriteString(w.headline(m) + "\n\n")
	line := func(label, text string) {
		if text != "" {
			fmt.Fprintf(&b, "%s: %s\n", label, text)
		}
	}
	line(w.site, m.Site)
	switch m.Type {
	case TypeTest:
		b.WriteString(w.testText + "\n")
	case TypeSummary:
		for _, one := range m.Messages {
			fmt.Fprintf(&b, "- [%s] %s %s\n", or(w.severity, one.Severity), one.Time.Format(timeForm), w.headline(one))
		}
		if rest := m.Count - len(m.Messages); rest > 0 {
			fmt.Fprintf(&b, w.more+"\n", rest)
		}
	default:
		line(w.what, or(w.transition, m.Transition))
		if m.Model != "" {
			line(w.point, m.Model+"."+m.Point)
		}
		line(w.rule, m.Rule)
		line(w.value, m.Value.String())
		if m.Threshold != "" {
			line(w.limit, strings.TrimSpace(string(m.Operator)+" "+m.Threshold.String()))
		}
		line(w.state, or(w.status, m.Status))
		line(w.by, m.By)
		line(w.id, m.Alarm)
	}
	line(w.at, m.Time.Format(timeForm))
	return subject, b.String(), nil
}

// headline is the message in one line.
func (w words) headline(m Message) string {
	switch m.Type {
	case TypeTest:
		return w.test
	case TypeSummary:
		return fmt.Sprintf(w.summary, m.Count)
	case TypeAlarm:
	default:
		return w.notification + ": " + m.Message
	}
	text := m.Model + "." + m.Point + " " + or(w.transition, m.Transition)
	if m.Escalation != "" {
		text += ", " + fmt.Sprintf(w.escalated, m.Escalation)
	}
	if m.Message != "" {
		text += ": " + m.Message
	}
	return text
}
