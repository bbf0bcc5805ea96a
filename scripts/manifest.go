package scripts

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// Manifest is what a script says of itself: the header of its file, and those
// of its includes merged in. docs/scripts.md has the grammar.
type Manifest struct {
	// Name and Version are the script's; Purpose is the rest of the first line.
	Name, Version, Purpose string
	// Includes are the shared parts, in the order in which they are composed.
	Includes []string
	// Forms are the ways in which the script is called, in the header's order.
	Forms []Form
	// Reply says in words what comes back after the code.
	Reply string
	// Codes are the first texts that a reply may have, the script's own first.
	Codes []Code
	// Keys are the keys and Pub/Sub channels that it touches, the script's own
	// first.
	Keys []KeyUse
	// Notes is whatever else the header says.
	Notes string
}

// Form is one way to call a script.
type Form struct {
	// Usage is the arguments: words as they are, <placeholders>, [optional parts],
	// … for more of the same.
	Usage string
	// Meaning says what it does, in one or more lines.
	Meaning string
}

// Arguments returns the names of the placeholders, in order: of
// "c2m <channel> <value> [<now>]" channel, value and now.
func (f Form) Arguments() []string {
	var names []string
	for _, m := range placeholder.FindAllStringSubmatch(f.Usage, -1) {
		names = append(names, m[1])
	}
	return names
}

// Code is one code with which a script answers.
type Code struct {
	// Code is the reply's first text, such as "FENCED".
	Code string
	// Meaning says what it tells the caller.
	Meaning string
}

// KeyUse is one key that a script touches.
type KeyUse struct {
	// Pattern is the key without the site's prefix, with <placeholders>;
	// <m|s|c|a> is one of these.
	Pattern string
	// Access is of the letters r (reads), w (writes) and p (publishes on the
	// Pub/Sub channel of this name), in this order.
	Access string
	// Why says what for.
	Why string
}

// header is the parsed header of one file.
type header struct {
	file     string
	first    string // the first line without "-- "
	version  string
	includes []include
	forms    []Form
	reply    string
	codes    []Code
	keys     []KeyUse
	notes    []string
}

type include struct {
	name string
	line int
}

var (
	placeholder   = regexp.MustCompile(`<([^<>]+)>`)
	directiveLike = regexp.MustCompile(`^\s*--+\s*@`)
	directiveLine = regexp.MustCompile(`^-- @([a-z]+)(?: +(.*))?$`)
	moreLine      = regexp.MustCompile(`^--  +\S`)
	versionText   = regexp.MustCompile(`^\d{1,6}\.\d{1,6}\.\d{1,6}$`)
	codeText      = regexp.MustCompile(`^([A-Z][A-Z0-9_]*)\s+(\S.*)$`)
	keysText      = regexp.MustCompile(`^(r?w?p?)\s+(\S+)\s+(\S.*)$`)
)

// parseHeader reads the comment lines at the head of a file. A directive is a
// line "-- @name text"; the indented lines right below belong to it. Directives
// that are unknown, malformed or not in the header are refused, for they would
// be taken for what they are not.
func parseHeader(file string, lines []string) (header, error) {
	h := header{file: file}
	isInclude := strings.HasPrefix(file, "include/")
	in := true
	for i := 0; i < len(lines); i++ {
		line := lines[i]
		bad := func(format string, args ...any) (header, error) {
			return h, fmt.Errorf("%s:%d: "+format, append([]any{file, i + 1}, args...)...)
		}
		in = in && strings.HasPrefix(line, "--")
		if marker(line) != "" {
			return bad("a line %q would be taken for the head of another file", line)
		}
		if !strings.Contains(line, "@") || !directiveLike.MatchString(line) {
			if in && i == 0 {
				h.first = strings.TrimSpace(strings.TrimPrefix(line, "--"))
			} else if in {
				h.notes = append(h.notes, unindent(line))
			}
			continue
		}
		m := directiveLine.FindStringSubmatch(line)
		switch {
		case m == nil:
			return bad("a directive is written \"-- @name text\", not %q", line)
		case !in:
			return bad("@%s stands below the header, which ends with the first line that is no comment", m[1])
		}
		name, text := m[1], strings.TrimSpace(m[2])
		var more []string
		if name != "version" && name != "include" {
			for i+1 < len(lines) && moreLine.MatchString(lines[i+1]) && !directiveLike.MatchString(lines[i+1]) {
				i++
				more = append(more, unindent(lines[i]))
			}
		}
		if isInclude && (name == "version" || name == "form" || name == "reply") {
			return bad("@%s belongs to scripts, not to includes", name)
		}
		if err := h.directive(name, text, more, i+1-len(more)); err != nil {
			return h, fmt.Errorf("%s:%d: %w", file, i+1-len(more), err)
		}
	}
	return h, nil
}

// directive stores one directive. more are the lines below it.
func (h *header) directive(name, text string, more []string, line int) error {
	all := strings.Join(strings.Fields(text+" "+strings.Join(more, " ")), " ")
	switch name {
	case "version":
		if !versionText.MatchString(text) {
			return fmt.Errorf("@version %.40q: want major.minor.patch, such as 1.0.0", text)
		}
		if h.version != "" {
			return fmt.Errorf("@version stands twice")
		}
		h.version = text
	case "include":
		if !scriptName.MatchString(text) {
			return fmt.Errorf("@include %.40q: want the name of a file in include/, without .lua", text)
		}
		h.includes = append(h.includes, include{text, line})
	case "form":
		if text == "" || len(more) == 0 {
			return fmt.Errorf("@form: want the arguments, and below them, indented, what it does")
		}
		h.forms = append(h.forms, Form{Usage: text, Meaning: strings.Join(dedent(more), "\n")})
	case "reply":
		if all == "" || h.reply != "" {
			return fmt.Errorf("@reply: want once, in words, what comes after the code")
		}
		h.reply = all
	case "code":
		m := codeText.FindStringSubmatch(all)
		if m == nil {
			return fmt.Errorf("@code %.40q: want a code in capitals and its meaning", all)
		}
		h.codes = append(h.codes, Code{Code: m[1], Meaning: m[2]})
	case "keys":
		m := keysText.FindStringSubmatch(all)
		if m == nil || m[1] == "" {
			return fmt.Errorf("@keys %.40q: want r, w or p (reads, writes, publishes; rw for two), the key's pattern and what for", all)
		}
		h.keys = append(h.keys, KeyUse{Access: m[1], Pattern: m[2], Why: m[3]})
	default:
		return fmt.Errorf("unknown directive @%s: there are @version, @include, @form, @reply, @code and @keys", name)
	}
	return nil
}

// unindent takes the comment sign from a line, and the one space after it.
func unindent(line string) string {
	return strings.TrimRight(strings.TrimPrefix(strings.TrimPrefix(line, "--"), " "), " ")
}

// dedent takes from every line what the least indented one begins with.
func dedent(lines []string) []string {
	least := -1
	for _, l := range lines {
		if n := len(l) - len(strings.TrimLeft(l, " ")); least < 0 || n < least {
			least = n
		}
	}
	out := make([]string, len(lines))
	for i, l := range lines {
		out[i] = l[least:]
	}
	return out
}

// Manifest reads the headers in the script's text. A text that was composed by
// an older build has fewer of them, or none; errors wrap [ErrScript].
func (s Script) Manifest() (Manifest, error) {
	m := Manifest{Name: s.Name, Version: s.Version}
	var own header
	var shared []header
	for _, f := range s.files() {
		if f.name == "trace" {
			continue
		}
		h, err := parseHeader(f.name, f.lines)
		if err != nil {
			return m, fmt.Errorf("%w %w", ErrScript, err)
		}
		if name, ok := strings.CutPrefix(f.name, "include/"); ok {
			m.Includes = append(m.Includes, strings.TrimSuffix(name, ".lua"))
			shared = append(shared, h)
		} else {
			own = h
		}
	}
	m.Purpose = strings.TrimSpace(strings.TrimPrefix(own.first, s.Name+":"))
	m.Forms, m.Reply = own.forms, own.reply
	m.Notes = strings.Trim(strings.Join(own.notes, "\n"), "\n")
	for _, h := range append([]header{own}, shared...) {
		for _, c := range h.codes {
			if !slices.ContainsFunc(m.Codes, func(o Code) bool { return o.Code == c.Code }) {
				m.Codes = append(m.Codes, c)
			}
		}
		for _, k := range h.keys {
			m.addKey(k)
		}
	}
	return m, nil
}

// addKey adds a key, or what is done with one that is known already.
func (m *Manifest) addKey(k KeyUse) {
	i := slices.IndexFunc(m.Keys, func(o KeyUse) bool { return o.Pattern == k.Pattern })
	if i < 0 {
		m.Keys = append(m.Keys, k)
		return
	}
	access := ""
	for _, letter := range []string{"r", "w", "p"} {
		if strings.Contains(m.Keys[i].Access+k.Access, letter) {
			access += letter
		}
	}
	m.Keys[i].Access = access
}

// String returns the manifest as a page of plain text, for a terminal.
func (m Manifest) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s\n%s\n", m.Name, m.Version, m.Purpose)
	if len(m.Includes) > 0 {
		fmt.Fprintf(&b, "made of %s and its own part\n", strings.Join(m.Includes, ", "))
	}
	if m.Notes != "" {
		fmt.Fprintf(&b, "\n%s\n", m.Notes)
	}
	for _, f := range m.Forms {
		fmt.Fprintf(&b, "\n%s\n    %s\n", f.Usage, strings.ReplaceAll(f.Meaning, "\n", "\n    "))
	}
	if m.Reply != "" {
		fmt.Fprintf(&b, "\nreply: %s\n", m.Reply)
	}
	for _, c := range m.Codes {
		fmt.Fprintf(&b, "  %-11s %s\n", c.Code, c.Meaning)
	}
	if len(m.Keys) > 0 {
		b.WriteString("\nkeys (r reads, w writes, p publishes):\n")
	}
	width := 0
	for _, k := range m.Keys {
		width = max(width, len(k.Pattern))
	}
	for _, k := range m.Keys {
		fmt.Fprintf(&b, "  %-3s %-*s  %s\n", k.Access, width, k.Pattern, k.Why)
	}
	return b.String()
}
