package voltage

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// Bounds against files that are small and mean something huge, by aliases of
// aliases, or that contain themselves.
const (
	loadMaxNodes = 1_000_000
	loadMaxDepth = 32
)

// parse reads the file into l.root and reports whether there is something to
// decode.
func (l *loader) parse(data []byte) bool {
	if line := loadNotUTF8(data); line > 0 {
		l.at(nil, line, "not UTF-8 text")
		return false
	}
	doc, err := loadYAML(data)
	if err == io.EOF || err == nil && (len(doc.Content) == 0 || loadNull(doc.Content[0])) {
		// A file that a power failure cut to nothing must not pass for a site
		// without devices.
		l.at(nil, 1, "the file is empty")
		return false
	}
	if err != nil {
		line, text := loadSyntax(data, err)
		l.at(nil, line, "%s", text)
		return false
	}
	l.root = doc.Content[0]
	return true
}

// loadYAML parses one document.
func loadYAML(data []byte) (doc *yaml.Node, err error) {
	defer func() {
		// The parser panics on what it calls internal errors.
		if r := recover(); r != nil {
			err = fmt.Errorf("yaml: %v", r)
		}
	}()
	dec := yaml.NewDecoder(bytes.NewReader(data))
	doc = new(yaml.Node)
	if err := dec.Decode(doc); err != nil {
		return nil, err
	}
	var next yaml.Node
	switch err := dec.Decode(&next); {
	case err == nil:
		return nil, fmt.Errorf("yaml: line %d: a second document begins here; a file has one", next.Line)
	case err != io.EOF:
		return nil, err
	}
	return doc, nil
}

var (
	loadYAMLError = regexp.MustCompile(`(?s)^yaml: (?:line (\d+): )?(.*)$`)
	// loadPlainWords says what the parser's most frequent messages mean.
	loadPlainWords = map[string]string{
		"found character that cannot start any token":    "a tab in the indentation, or text that begins with a character that needs quotes, such as @ % or `",
		"mapping values are not allowed in this context": "a colon where none is expected: text that holds a colon and a space needs quotes, or the indentation is wrong",
	}
	loadAnchor = regexp.MustCompile(`^unknown anchor '(.*)' referenced$`)
)

// loadSyntax turns an error of the parser into the line and a text.
func loadSyntax(data []byte, err error) (line int, text string) {
	m := loadYAMLError.FindStringSubmatch(err.Error())
	if m == nil {
		return 1, err.Error()
	}
	line, _ = strconv.Atoi(m[1]) // 0 when the parser names none
	text = m[2]
	if a := loadAnchor.FindStringSubmatch(text); a != nil {
		// The name may be a password that should have been quoted.
		at := max(bytes.Index(data, []byte("*"+a[1])), 0)
		return 1 + bytes.Count(data[:at], []byte("\n")), "an alias (*name) of an anchor (&name) that is not there; text that begins with * needs quotes"
	}
	if plain, ok := loadPlainWords[text]; ok {
		text = plain
	}
	if text == "control characters are not allowed" {
		return loadControl(data), text
	}
	if strings.HasPrefix(text, "did not find expected") {
		// The parser names the line before the one where the block or list
		// began, which may be far away.
		line++
		if loadBlock(text) {
			line = loadBisect(data, line)
			text = "the indentation does not fit the lines above, or a key or list item is malformed"
		}
	}
	return max(line, 1), text
}

// loadBlock reports whether a fault ends a block, so that every text without
// the line of the fault is complete.
func loadBlock(text string) bool {
	return strings.HasSuffix(text, "did not find expected key") ||
		strings.HasSuffix(text, "did not find expected '-' indicator") ||
		strings.HasSuffix(text, "did not find expected <document start>")
}

// loadBisect returns the first line with which the text cannot be read.
func loadBisect(data []byte, least int) int {
	ends := []int{0}
	for i, c := range data {
		if c == '\n' {
			ends = append(ends, i+1)
		}
	}
	ends = append(ends, len(data))
	good, bad := 0, len(ends)-1
	for good+1 < bad {
		middle := (good + bad) / 2
		if _, err := loadYAML(data[:ends[middle]]); err != nil && loadBlock(err.Error()) {
			bad = middle
		} else {
			good = middle
		}
	}
	return max(bad, least)
}

// loadNotUTF8 returns the first line that is not UTF-8, or 0.
func loadNotUTF8(data []byte) int {
	if utf8.Valid(data) {
		return 0
	}
	line := 1
	for len(data) > 0 {
		r, size := utf8.DecodeRune(data)
		if r == utf8.RuneError && size == 1 {
			break
		}
		if r == '\n' {
			line++
		}
		data = data[size:]
	}
	return line
}

// loadControl returns the line of the first character that YAML does not allow.
func loadControl(data []byte) int {
	line := 1
	for _, r := range string(data) {
		switch {
		case r == '\n':
			line++
		case r < 0x20 && r != '\t' && r != '\r', r >= 0x7f && r < 0xa0 && r != 0x85, r == 0xfffe, r == 0xffff:
			return line
		}
	}
	return 1
}

// loadNull reports whether a value is left out: nothing, ~ or null.
func loadNull(n *yaml.Node) bool {
	if n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	return n.Kind == yaml.ScalarNode && loadPlain(n) && slices.Contains([]string{"", "~", "null", "Null", "NULL"}, n.Value)
}

// loadPlain reports whether a scalar stands without quotes.
func loadPlain(n *yaml.Node) bool {
	return n.Style&(yaml.SingleQuotedStyle|yaml.DoubleQuotedStyle|yaml.LiteralStyle|yaml.FoldedStyle) == 0
}

// loadPair is a key and its value.
type loadPair struct {
	key   string
	line  int
	value *yaml.Node
}

// pairs returns a section's pairs with what << merges into it: own keys win,
// then earlier merges. Faults are reported only when tell is set.
func (l *loader) pairs(n *yaml.Node, p loadPath, tell bool) []loadPair {
	return l.merge(n, p, tell, map[string]int{}, map[*yaml.Node]bool{}, nil)
}

// merge appends the pairs of n to the list. Sections that were merged before
// are in done: they have nothing more to give, and may contain themselves.
func (l *loader) merge(n *yaml.Node, p loadPath, tell bool, first map[string]int, done map[*yaml.Node]bool, list []loadPair) []loadPair {
	report := func(line int, format string, args ...any) {
		if tell {
			l.at(p, line, format, args...)
		}
	}
	done[n] = true
	if tell && !l.spend(p, n.Line, len(n.Content)) {
		return list
	}
	var bases []*yaml.Node
	own := map[string]int{} // of this section, without what merged it
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, v := n.Content[i], n.Content[i+1]
		if k.Kind == yaml.ScalarNode && k.Value == "<<" && loadPlain(k) {
			bases = append(bases, loadBases(v)...)
			continue
		}
		if k.Kind != yaml.ScalarNode || k.Style&yaml.TaggedStyle != 0 {
			report(k.Line, "a key must be plain text")
			continue
		}
		if line, ok := own[k.Value]; ok {
			if tell {
				l.at(p.with(k.Value), k.Line, "the key is there twice, first on line %d", line)
			}
			continue
		}
		own[k.Value] = k.Line
		if _, ok := first[k.Value]; !ok {
			first[k.Value] = k.Line
			list = append(list, loadPair{k.Value, k.Line, v})
		}
	}
	for _, b := range bases {
		if b.Kind != yaml.MappingNode {
			report(b.Line, "<< takes a section, or a list of sections")
			continue
		}
		if !done[b] {
			list = l.merge(b, p, tell, first, done, list)
		}
	}
	return list
}

// loadBases returns what << names.
func loadBases(n *yaml.Node) []*yaml.Node {
	if n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	if n.Kind != yaml.SequenceNode {
		return []*yaml.Node{n}
	}
	var list []*yaml.Node
	for _, item := range n.Content {
		if item.Kind == yaml.AliasNode {
			item = item.Alias
		}
		list = append(list, item)
	}
	return list
}

// spend counts nodes and reports once when there are too many.
func (l *loader) spend(p loadPath, line, n int) bool {
	if l.budget < 0 {
		return false
	}
	if l.budget -= n + 1; l.budget < 0 {
		l.at(p, line, "more than %d values: aliases multiply them", loadMaxNodes)
		return false
	}
	return true
}

// find follows a path as far as it goes and returns the line of where it ends,
// and whether it went all the way to a value.
func (l *loader) find(p loadPath) (line int, ok bool) {
	n := l.root
	if n == nil {
		return 1, false
	}
	line = n.Line
	for _, part := range p {
		if n.Kind == yaml.AliasNode {
			n = n.Alias
		}
		found := false
		switch part := part.(type) {
		case int:
			if n.Kind == yaml.SequenceNode && part < len(n.Content) {
				n, found = n.Content[part], true
				line = n.Line
			}
		case string:
			if n.Kind != yaml.MappingNode {
				break
			}
			for _, pair := range l.pairs(n, nil, false) {
				if pair.key == part {
					n, line, found = pair.value, pair.line, true
					break
				}
			}
		}
		if !found {
			return line, false
		}
	}
	return line, !loadNull(n)
}

// line returns where a field stands, or else what it would be in.
func (l *loader) line(p loadPath) int {
	line, _ := l.find(p)
	return line
}

// has reports whether the file gives the field a value.
func (l *loader) has(p loadPath) bool {
	_, ok := l.find(p)
	return ok
}

// errLoadReported stands for faults that were reported already.
var errLoadReported = errors.New("reported")
