package main

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/voltageems/voltage/scripts"
)

// What a line of the page may have, in characters: of one argument, of all of
// them, and of a reply.
const (
	argWidth   = 48
	argsWidth  = 90
	replyWidth = 60
)

// page is a trace for people: what was called, every step, what the answer
// means, what is different now, and a summary.
func (t traced) page() string {
	var b strings.Builder
	t.head(&b)
	t.steps(&b)
	t.answer(&b)
	t.changed(&b)
	t.summary(&b)
	return b.String()
}

func (t traced) head(b *strings.Builder) {
	fmt.Fprintf(b, "%s %s: %s\n", t.Script, t.Version, t.manifest.Purpose)
	fmt.Fprintf(b, "%s\n", []string{"run in this process, on a scratch store", "dry run in this process, on copies of the site's keys: nothing was written",
		"run for real: what it wrote is written"}[t.way])
	if t.prefix != "" {
		fmt.Fprintf(b, "every key begins with %s, which is left out here\n", t.prefix)
	}
	fmt.Fprintf(b, "\ncalled   %s\n", showArgs(t.Args, 10*argsWidth))
	form, ok := t.manifest.Form(t.Args)
	if !ok {
		return
	}
	fmt.Fprintf(b, "form     %s\n", form.Usage)
	if given := givenArgs(form, t.Args); given != "" {
		fmt.Fprintf(b, "         %s\n", given)
	}
	for line := range strings.Lines(form.Meaning) {
		fmt.Fprintf(b, "         %s\n", strings.TrimRight(line, "\n"))
	}
}

// givenArgs says which placeholder of a form has which argument, as far as each
// has one.
func givenArgs(form scripts.Form, args []string) string {
	names, args := form.Arguments(), args[len(form.Words()):]
	var list []string
	for i := 0; i < min(len(names), len(args)) && !strings.Contains(names[i], "…"); i++ {
		list = append(list, names[i]+" = "+showArgs(args[i:i+1], argWidth))
	}
	return strings.Join(list, ", ")
}

// access says what a call does to the data.
func access(c scripts.TracedCall) string {
	switch {
	case c.Publishes():
		return "publish"
	case c.Writes():
		return "write"
	}
	return "read"
}

func (t traced) steps(b *strings.Builder) {
	fmt.Fprintf(b, "\nsteps    what it does, where in the Lua, its time, the command → the reply; below it, what the key is for\n")
	verb, place := 0, 0
	rows := make([][3]string, len(t.Calls))
	for i, c := range t.Calls {
		at := "?"
		if c.File != "" {
			at = c.File + ":" + strconv.Itoa(c.Line)
		}
		does, took := access(c), "?"
		if t.way == dry && does != "read" {
			does = "would " + does
		}
		if c.Micros >= 0 {
			took = strconv.FormatInt(c.Micros, 10) + " µs"
		}
		rows[i] = [3]string{does, at, took}
		verb, place = max(verb, len(does)), max(place, len(at))
	}
	for i, c := range t.Calls {
		reply := showReply(c.Reply)
		if c.Err != "" {
			reply = "error: " + c.Err
		}
		fmt.Fprintf(b, "%3d %-*s  %-*s %*s  %s → %s\n", i+1, verb, rows[i][0], place, rows[i][1], 7+len(rows[i][2])-utf8.RuneCountInString(rows[i][2]),
			rows[i][2], showArgs(t.short(c.Args), argsWidth), shorten(reply, replyWidth))
		if why := t.why(c); len(why) > 0 {
			fmt.Fprintf(b, "%*s%s\n", 4+verb+2+place+1+7+2+2, "", strings.Join(why, "; "))
		}
	}
	if len(t.Calls) == 0 {
		fmt.Fprintf(b, "    none\n")
	}
}

// short leaves the site's prefix out of arguments that are keys.
func (t traced) short(args []string) []string {
	if t.prefix == "" {
		return args
	}
	out := make([]string, len(args))
	for i, a := range args {
		out[i] = strings.TrimPrefix(a, t.prefix)
	}
	return out
}

// why says what a call's keys are for, as the script's header has it.
func (t traced) why(c scripts.TracedCall) (list []string) {
	names := c.Keys()
	if c.Publishes() && len(c.Args) > 1 {
		names = c.Args[1:2]
	}
	if strings.EqualFold(c.Args[0], "TIME") {
		return []string{"the time of this call: the clock of the store"}
	}
	for _, name := range names {
		use, ok := t.manifest.KeyUse(strings.TrimPrefix(name, t.prefix), c.Publishes())
		if ok && !slices.Contains(list, use.Why) {
			list = append(list, use.Why)
		}
	}
	return list
}

func (t traced) answer(b *strings.Builder) {
	if t.Err != nil {
		fmt.Fprintf(b, "\nfailed   %v\n", t.Err)
		if writes := t.count("write"); writes > 0 && t.way == forReal {
			fmt.Fprintf(b, "         what the %s before it wrote stays written\n", counted(writes, "call"))
		}
		return
	}
	if len(t.Reply) == 0 {
		fmt.Fprintf(b, "\nanswer   nothing\n")
		return
	}
	fmt.Fprintf(b, "\nanswer   %s", t.Reply[0])
	if meaning, ok := t.manifest.Meaning(t.Reply[0]); ok {
		fmt.Fprintf(b, ": %s", meaning)
	}
	fmt.Fprintln(b)
	texts := t.Reply[1:]
	if len(texts)%2 == 0 && len(texts) > 0 && texts[0] == "id" { // a command's record: names and values
		pairs := make([]string, len(texts)/2)
		for i := range pairs {
			pairs[i] = texts[2*i] + " = " + or(texts[2*i+1], `""`)
		}
		texts = pairs
	}
	for _, text := range texts {
		fmt.Fprintf(b, "         %s\n", shorten(printable(text), 2*argsWidth))
	}
	if len(t.Reply) > 1 && t.manifest.Reply != "" {
		fmt.Fprintf(b, "         (an answer is: %s)\n", t.manifest.Reply)
	}
}

func (t traced) changed(b *strings.Builder) {
	if t.way == forReal {
		return
	}
	what := "changes  of keys, before → after: + is new, ~ is another, - is gone"
	if t.way == dry {
		what = "changes  that it would make, before → after: + is new, ~ is another, - is gone"
	}
	fmt.Fprintf(b, "\n%s\n", what)
	if len(t.changes) == 0 {
		fmt.Fprintf(b, "         none\n")
	}
	key := ""
	for _, c := range t.changes {
		if c.Key != key {
			key = c.Key
			fmt.Fprintf(b, "         %s\n", printable(strings.TrimPrefix(key, t.prefix)))
		}
		name := ""
		if c.Part != "" {
			name = shorten(printable(c.Part), argWidth)
		}
		value := func(s *string) string {
			if *s == "" {
				return `""`
			}
			return shorten(printable(*s), argsWidth)
		}
		switch {
		case c.Type == "set" && c.Part != "expiry":
			fmt.Fprintf(b, "           %s %s\n", map[bool]string{true: "+", false: "-"}[c.Before == nil], name)
		case c.Before == nil:
			fmt.Fprintf(b, "           + %s\n", pair(name, " = ", value(c.After)))
		case c.After == nil:
			fmt.Fprintf(b, "           - %s\n", pair(name, ", was ", value(c.Before)))
		default:
			fmt.Fprintf(b, "           ~ %s\n", pair(name, ": ", value(c.Before)+" → "+value(c.After)))
		}
	}
}

func pair(name, between, value string) string {
	if name == "" {
		return value
	}
	return name + between + value
}

func (t traced) count(what string) (n int) {
	for _, c := range t.Calls {
		if access(c) == what {
			n++
		}
	}
	return n
}

func (t traced) summary(b *strings.Builder) {
	read, written := map[string]bool{}, map[string]bool{}
	sum, known := int64(0), true
	for _, c := range t.Calls {
		into := read
		if c.Writes() {
			into = written
		}
		for _, k := range c.Keys() {
			into[k] = true
		}
		sum += max(c.Micros, 0)
		known = known && c.Micros >= 0
	}
	makes, sends := "made", "sent"
	if t.way == dry {
		makes, sends = "would make", "send"
	}
	fmt.Fprintf(b, "\nsummary  %s: %s of %s; it %s %s of %s and %s %s\n", counted(len(t.Calls), "call"),
		counted(t.count("read"), "read"), counted(len(read), "key"), makes,
		counted(t.count("write"), "write"), counted(len(written), "key"), sends, counted(t.count("publish"), "message"))
	switch {
	case t.way == forReal && known:
		fmt.Fprintf(b, "         %d µs in Redis commands; the caller waited %d µs\n", sum, t.Elapsed.Microseconds())
	case t.way == forReal:
		fmt.Fprintf(b, "         this store has no clock inside a script; the caller waited %d µs\n", t.Elapsed.Microseconds())
	default:
		fmt.Fprintf(b, "         %d µs in commands, in this process: that compares them with each other, Redis has other times\n", sum)
	}
}

var plain = regexp.MustCompile(`^[\p{L}\p{N}_.:{}|*+~<>=/,°%-]+$`)

// printable quotes a text that would not look as it is.
func printable(s string) string {
	for _, r := range s {
		if !strconv.IsPrint(r) || r == utf8.RuneError {
			return strconv.Quote(s)
		}
	}
	return s
}

// showArgs writes arguments as one would type them, and of many the first ones.
func showArgs(args []string, width int) string {
	var b strings.Builder
	for i, a := range args {
		if !plain.MatchString(a) {
			a = showReply(a)
		}
		if i > 1 || i == 1 && len(args) > 2 { // a single argument is worth more room
			a = shorten(a, argWidth)
		}
		if i > 1 && utf8.RuneCountInString(b.String())+utf8.RuneCountInString(a) > width {
			fmt.Fprintf(&b, " … (%d arguments)", len(args))
			break
		}
		if i > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(a)
	}
	return b.String()
}

// shorten cuts a text after so many characters.
func shorten(s string, width int) string {
	if utf8.RuneCountInString(s) <= width {
		return s
	}
	return string([]rune(s)[:width-1]) + "…"
}

// showReply writes a reply as redis-cli does, on one line.
func showReply(v any) string {
	switch v := v.(type) {
	case nil:
		return "(nil)"
	case string:
		if quoted := "'" + v + "'"; strings.Contains(v, `"`) && !strings.Contains(v, "'") && printable(v) == v {
			return quoted // JSON stays readable
		}
		return strconv.Quote(v)
	case []any:
		parts := make([]string, len(v))
		for i := range v {
			parts[i] = showReply(v[i])
		}
		return "[" + strings.Join(parts, ", ") + "]"
	}
	return fmt.Sprint(v)
}
