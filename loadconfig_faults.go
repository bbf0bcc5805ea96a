package voltage

import (
	"cmp"
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/voltageems/voltage/model"
)

// Bounds of what is reported and of what is kept for it.
const (
	loadMaxReport = 50
	loadMaxFaults = 1000
)

// loadFault is one thing that is wrong with the configuration.
type loadFault struct {
	file  int // place in loader.files
	line  int
	text  string // with the field
	cause error
}

// key tells a fault from others.
func (f loadFault) key() string { return fmt.Sprintf("%d:%d:%s", f.file, f.line, f.text) }

// loadError is a fault for the caller. It wraps the cause without its text,
// which the message has in the file's own words.
type loadError struct {
	text  string
	cause error
}

func (e *loadError) Error() string { return e.text }
func (e *loadError) Unwrap() error { return e.cause }

// loadPath leads to a place in the file: keys and places in lists.
type loadPath []any

func (p loadPath) with(parts ...any) loadPath { return append(p[:len(p):len(p)], parts...) }

// String returns the form for messages, such as channels[0].scan.
func (p loadPath) String() string {
	var b strings.Builder
	for i, part := range p {
		if at, ok := part.(int); ok {
			b.WriteString("[" + strconv.Itoa(at) + "]")
			continue
		}
		if i > 0 {
			b.WriteByte('.')
		}
		key := part.(string)
		if !model.ValidID(key) { // anything may stand in a file
			key = fmt.Sprintf("%.60q", key)
		}
		b.WriteString(key)
	}
	return b.String()
}

// fail reports a fault of a field of the configuration file.
func (l *loader) fail(p loadPath, format string, args ...any) {
	l.addAt(p, l.line(p), fmt.Sprintf(format, args...), model.ErrInvalid)
}

// at is fail for who knows the line; the field counts as not decoded.
func (l *loader) at(p loadPath, line int, format string, args ...any) {
	l.addAt(p, line, fmt.Sprintf(format, args...), model.ErrInvalid)
	if len(l.broken) < loadMaxFaults {
		l.broken[p.String()] = true
	}
}

func (l *loader) addAt(p loadPath, line int, text string, cause error) {
	l.add(l.file, line, p.String(), text, cause)
}

// add reports a fault unless it is known. field may be empty.
func (l *loader) add(file, line int, field, text string, cause error) {
	if field != "" {
		text = field + ": " + text
	}
	fault := loadFault{file, max(line, 1), text, cause}
	key := fault.key()
	switch {
	case l.seen[key]:
	case len(l.faults) >= loadMaxFaults:
		l.more++
	default:
		l.seen[key] = true
		l.faults = append(l.faults, fault)
	}
}

// count returns how many faults there are so far.
func (l *loader) count() int { return len(l.faults) + l.more }

// isBroken reports whether the field could not be decoded, so that checks of
// its value would only mislead.
func (l *loader) isBroken(p loadPath) bool { return len(l.broken) > 0 && l.broken[p.String()] }

// brokenUnder reports whether the field or one below could not be decoded.
func (l *loader) brokenUnder(p loadPath) bool {
	at := p.String()
	for field := range l.broken {
		if rest, ok := strings.CutPrefix(field, at); ok && (rest == "" || rest[0] == '.' || rest[0] == '[') {
			return true
		}
	}
	return false
}

// loadUserinfo is the login in a URL.
var loadUserinfo = regexp.MustCompile(`://[^\s"]*@`)

// err returns all faults in the order of files and lines, or nil.
func (l *loader) err() error {
	slices.SortStableFunc(l.faults, func(a, b loadFault) int {
		return cmp.Or(cmp.Compare(a.file, b.file), cmp.Compare(a.line, b.line))
	})
	var errs []error
	for _, f := range l.faults[:min(len(l.faults), loadMaxReport)] {
		text := loadUserinfo.ReplaceAllString(f.text, "://***@")
		errs = append(errs, &loadError{fmt.Sprintf("%s:%d: %s", l.files[f.file], f.line, text), f.cause})
	}
	if rest := l.count() - len(errs); rest > 0 {
		errs = append(errs, &loadError{fmt.Sprintf("%s: and %d more", l.files[0], rest), model.ErrInvalid})
	}
	return errors.Join(errs...)
}

// loadSplit takes errors.Join apart. What %w wrapped stays together.
func loadSplit(err error) []error {
	if err == nil {
		return nil
	}
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return []error{err}
	}
	var parts []error
	var texts []string
	for _, e := range joined.Unwrap() {
		if e != nil {
			parts = append(parts, e)
			texts = append(texts, e.Error())
		}
	}
	if strings.Join(texts, "\n") != err.Error() {
		return []error{err}
	}
	var all []error
	for _, e := range parts {
		all = append(all, loadSplit(e)...)
	}
	return all
}

// loadText is an error's text without the names of sentinels, which say nothing
// more here.
func loadText(err error) string {
	text := strings.ReplaceAll(err.Error(), ": invalid: ", ": ")
	return strings.TrimPrefix(text, "invalid: ")
}

// loadLocate finds the key that a message is about: the first part between
// colons that begins with one. It returns the key and the message after it, or
// the whole message.
func loadLocate(text string, keys []string) (key, rest string) {
	parts := strings.Split(text, ": ")
	for i, part := range parts {
		for _, k := range keys {
			for _, name := range []string{k, strings.ReplaceAll(k, "_", " ")} {
				after, ok := strings.CutPrefix(part, name)
				if !ok || after != "" && after[0] != ' ' || len(k) <= len(key) {
					continue
				}
				key = k
				rest = strings.Join(append([]string{after}, parts[i+1:]...), ": ")
				rest = strings.TrimSpace(strings.TrimPrefix(rest, ": "))
			}
		}
		if key != "" && rest != "" {
			return key, rest
		}
		key = ""
	}
	return "", text
}

// loadStoreText puts a store's message into the file's words and says which
// field it is about.
func loadStoreText(text string) (field []any, out string) {
	text = strings.TrimPrefix(text, "store configuration: ")
	text = strings.NewReplacer("MaxMemory is", "max_memory is", "a Folder", "a folder", "CertFile", "cert_file", "KeyFile", "key_file", "CAFile", "ca_file").Replace(text)
	switch {
	case strings.HasPrefix(text, "persistence "):
		return []any{"managed", "persistence"}, strings.TrimPrefix(text, "persistence ")
	case strings.HasPrefix(text, "max_memory is "):
		return []any{"managed", "max_memory"}, strings.TrimPrefix(text, "max_memory is ")
	case strings.Contains(text, "a managed store"):
		return []any{"managed"}, text
	case strings.Contains(text, "_file"):
		return []any{"tls"}, text
	}
	return []any{"redis"}, text
}

// loadSuggest completes "unknown key".
func loadSuggest(word string, known []string) string {
	best, distance := "", 1+min(len(word)/3, 3) // short words are near to everything
	for _, k := range known {
		if d := loadDistance(strings.ToLower(word), k); d < distance {
			best, distance = k, d
		}
	}
	switch {
	case best != "":
		return fmt.Sprintf("; did you mean %s?", best)
	case len(known) == 0:
		return ""
	case len(known) > 20:
		return fmt.Sprintf(": want one of %s, …", strings.Join(known[:20], ", "))
	}
	return fmt.Sprintf(": want one of %s", strings.Join(known, ", "))
}

// loadDistance is the number of edits (insert, delete, replace, swap) between
// two words. Long words are not worth it.
func loadDistance(a, b string) int {
	if len(a) > model.MaxIDLength || len(b) > model.MaxIDLength {
		return model.MaxIDLength
	}
	before, last := []int(nil), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := range len(a) {
		row := make([]int, len(b)+1)
		row[0] = i + 1
		for j := range len(b) {
			replace := last[j]
			if a[i] != b[j] {
				replace++
			}
			row[j+1] = min(last[j+1]+1, row[j]+1, replace)
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				row[j+1] = min(row[j+1], before[j-1]+1)
			}
		}
		before, last = last, row
	}
	return last[len(b)]
}

// loadCheck validates a struct and reports every field that is wrong, not only
// the first: what is reported is replaced from good, and the rest checked
// again. skip are fields that were reported before. It returns the struct with
// the replacements.
func loadCheck[T any](l *loader, v, good T, skip []string, validate func(T) error, report func(field, text string)) T {
	fields := l.fieldsOf(reflect.TypeFor[T]())
	to, from := reflect.ValueOf(&v).Elem(), reflect.ValueOf(&good).Elem()
	for _, name := range skip {
		if f, ok := fields.byName[name]; ok {
			to.FieldByIndex(f).Set(from.FieldByIndex(f))
		}
	}
	for range fields.names {
		err := validate(v)
		if err == nil {
			break
		}
		name, text := loadLocate(loadText(err), fields.names)
		report(name, text)
		if name == "" {
			break
		}
		to.FieldByIndex(fields.byName[name]).Set(from.FieldByIndex(fields.byName[name]))
	}
	return v
}
