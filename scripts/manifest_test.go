package scripts

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestManifest(t *testing.T) {
	t.Parallel()
	list, err := ComposeFolder(folder("a.lua", `-- a: what it is for
-- @version 1.2.3
-- @include one
--
-- More words,
--   indented.
--
-- @form ack|close <now> <alarm id> [<field> <value> …]
--   It does this
--     and that.
-- @form drop <id>
--   Gone.
--
-- @reply OK and the
--   status
-- @code OK     done
-- @code MINE   in more
--   than a line
-- @keys rw alarm:<id>      the record
-- @keys p  alarm:journal   a hint
local x = 1 -- @not a directive
`, "include/one.lua", `-- words of the include
-- @code OK  of the include
-- @code GENERATION  lost
-- @keys w alarm:journal  every transition
-- @keys r site:generation  whose data
`))
	require.NoError(t, err)
	m, err := list[0].Manifest()
	require.NoError(t, err)
	require.Equal(t, Manifest{Name: "a", Version: list[0].Version, Purpose: "what it is for", Includes: []string{"one"},
		Forms: []Form{{Usage: "ack|close <now> <alarm id> [<field> <value> …]", Meaning: "It does this\n  and that."}, {Usage: "drop <id>", Meaning: "Gone."}},
		Reply: "OK and the status",
		Codes: []Code{{"OK", "done"}, {"MINE", "in more than a line"}, {"GENERATION", "lost"}},
		Keys:  []KeyUse{{"alarm:<id>", "rw", "the record"}, {"alarm:journal", "wp", "a hint"}, {"site:generation", "r", "whose data"}},
		Notes: "More words,\n  indented."}, m)
	require.Equal(t, []string{"now", "alarm id", "field", "value"}, m.Forms[0].Arguments())
	page := m.String()
	for _, want := range []string{"a 1.2.3+", "what it is for\n", "made of one and its own part", "ack|close <now>", "    It does this\n", "reply: OK and", "  MINE  ", "  wp  alarm:journal"} {
		require.Contains(t, page, want)
	}
	// the traced form says the same
	traced, err := list[0].Traced().Manifest()
	require.NoError(t, err)
	require.Equal(t, m, traced)
	// a text without headers
	m, err = Script{Name: "a", Version: "1.0.0+0", Text: "return 1\n"}.Manifest()
	require.NoError(t, err)
	require.Equal(t, Manifest{Name: "a", Version: "1.0.0+0"}, m)
	_, err = Script{Name: "a", Text: "-- from a.lua\n-- @what\n"}.Manifest()
	require.ErrorIs(t, err, ErrScript)
}

var (
	codeLiteral = regexp.MustCompile(`(?:return \{ |command_reply\(|local report(?:, total)? = \{ |report = [^{\n]*\{ )'([A-Z]+)'`)
	keyStart    = regexp.MustCompile(`\bP \.\. `)
)

// Every script says what it is called with, what it answers and what it touches,
// and its text keeps to that.
func TestManifestsAreTrue(t *testing.T) {
	t.Parallel()
	list, err := Scripts()
	require.NoError(t, err)
	table := designKeys(t)
	for _, s := range list {
		m, err := s.Manifest()
		require.NoError(t, err)
		require.NotEmpty(t, m.Purpose, s.Name)
		require.NotEmpty(t, m.Includes, s.Name)
		require.NotEmpty(t, m.Forms, s.Name)
		require.NotEmpty(t, m.Reply, s.Name)
		require.NotEmpty(t, m.Keys, s.Name)
		require.Contains(t, s.Text, "-- "+s.Name+": "+m.Purpose+"\n")
		var codes []string
		for _, c := range m.Codes {
			codes = append(codes, c.Code)
			require.Contains(t, codeErrors, c.Code, "%s: @code is not in codeErrors (errors.go)", s.Name)
			require.Contains(t, s.Text, "'"+c.Code+"'", "%s declares a @code that it never answers", s.Name)
		}
		literals := codeLiteral.FindAllStringSubmatch(s.Text, -1)
		require.Greater(t, len(literals), 2, s.Name)
		for _, c := range literals {
			require.Contains(t, codes, c[1], "%s answers what no @code of its header declares", s.Name)
		}
		patterns := keysInText(s.Text)
		require.NotEmpty(t, patterns, s.Name)
		for _, p := range patterns {
			require.True(t, slices.ContainsFunc(m.Keys, func(k KeyUse) bool { return samePattern(k.Pattern, p) }),
				"%s touches %s, which no @keys of its header declares", s.Name, p)
		}
		for _, k := range m.Keys {
			if strings.Trim(placeholder.ReplaceAllString(k.Pattern, ""), ":") != "" {
				if !slices.ContainsFunc(table, func(d string) bool { return samePattern(d, k.Pattern) }) {
					t.Errorf("%s: docs/design.md has no key %s", s.Name, k.Pattern)
				}
			}
		}
	}
}

// keysInText finds the keys that a script builds: P .. 'alarm:' .. id → alarm:<>.
func keysInText(text string) []string {
	var list []string
	for _, at := range keyStart.FindAllStringIndex(text, -1) {
		rest, pattern := text[at[1]:], ""
		for {
			part := keyPart.FindString(rest)
			if part == "" {
				break
			}
			rest = rest[len(part):]
			if strings.HasPrefix(part, "'") {
				pattern += strings.Trim(part, "'")
			} else {
				pattern += "<>"
				for strings.HasPrefix(rest, "(") { // the arguments of a call
					depth, end := 0, 0
					for i, r := range rest {
						if r == '(' {
							depth++
						} else if r == ')' {
							depth--
						}
						if depth == 0 {
							end = i + 1
							break
						}
					}
					rest = rest[max(end, 1):]
				}
			}
			if !strings.HasPrefix(rest, " .. ") {
				break
			}
			rest = rest[len(" .. "):]
		}
		if pattern != "" && !slices.Contains(list, pattern) {
			list = append(list, pattern)
		}
	}
	return list
}

var keyPart = regexp.MustCompile(`^(?:'[^']*'|[A-Za-z_][A-Za-z0-9_.]*(?:\[[^\]]*\])*)`)

var hole = regexp.MustCompile(`<[^<>]*>`)

// samePattern reports whether a key as a text builds it can be the documented
// one. What is literal in it is literal there: alarm:state is no alarm:<id>.
// <a|b> is one of these; a part that the text puts in may be anything.
func samePattern(documented, built string) bool {
	expression := func(pattern, part string) *regexp.Regexp {
		e, at := "^", 0
		for _, m := range hole.FindAllStringIndex(pattern, -1) {
			e += regexp.QuoteMeta(pattern[at:m[0]]) + "(?:" + part
			if options := pattern[m[0]+1 : m[1]-1]; strings.Contains(options, "|") {
				e += "|" + options
			}
			e, at = e+")", m[1]
		}
		return regexp.MustCompile(e + regexp.QuoteMeta(pattern[at:]) + "$")
	}
	return expression(documented, "0").MatchString(hole.ReplaceAllString(built, "0")) ||
		expression(built, ".+").MatchString(hole.ReplaceAllString(documented, "0"))
}

func TestKeyPatterns(t *testing.T) {
	t.Parallel()
	require.Equal(t, []string{"alarm:<>", "comsrv:<>:fence", "cache:model:<>:values", "lua:version:<>", "<>", "cmd:<>:queue"},
		keysInText(`x(P .. 'alarm:' .. id, P .. 'comsrv:' .. ARGV[a + 1] .. ':fence') P .. 'cache:model:' .. f(g(1), 2) .. ':values'
P .. 'lua:version:' .. SCRIPT)
redis.call('HGET', P .. key, name) P .. 'cmd:' .. c.channel .. ':queue' P .. 'alarm:' .. id`))
	for _, c := range [][2]string{{"alarm:<id>", "alarm:<>"}, {"comsrv:<channel>:<m|s|c|a>", "comsrv:<>:m"}, {"comsrv:<channel>:<m|s|c|a>", "comsrv:<>:<>"},
		{"modsrv:<model>:ts", "<>:<>"}, {"cache:model:<id>:values", "cache:<>"}, {"mapping:c2m", "mapping:c2m"}, {"comsrv:<channel>:<m|s|c|a|text>", "comsrv:<channel>:text"}} {
		require.True(t, samePattern(c[0], c[1]), c)
	}
	for _, c := range [][2]string{{"comsrv:<channel>:<m|s|c|a>", "comsrv:<>:owner"}, {"mapping:c2m", "mapping:m2c"}, {"rule:<id>", "rules:state"}, {"alarm:<id>", "alarm:state"}} {
		require.False(t, samePattern(c[0], c[1]), c)
	}
}

// designKeys reads the first column of the table of keys in docs/design.md, with
// the Pub/Sub channels below it.
func designKeys(t *testing.T) []string {
	t.Helper()
	page, err := os.ReadFile("../docs/design.md")
	require.NoError(t, err)
	code := regexp.MustCompile("`([^`]+)`")
	var list []string
	for line := range strings.Lines(string(page)) {
		text, isPubSub := strings.CutPrefix(line, "Pub/Sub: ")
		if !isPubSub {
			cells := strings.Split(strings.ReplaceAll(text, `\|`, "\x00"), "|")
			if !strings.HasPrefix(line, "| `") {
				continue
			}
			text = cells[1]
		}
		for _, m := range code.FindAllStringSubmatch(text, -1) {
			key := strings.ReplaceAll(m[1], "\x00", "|")
			if n := len(list); strings.HasPrefix(key, ":") && n > 0 { // `modsrv:<model>:measurement` (and `:signal`)
				key = list[n-1][:strings.LastIndexByte(list[n-1], ':')] + key
			}
			list = append(list, key)
		}
	}
	require.Greater(t, len(list), 30)
	return list
}
