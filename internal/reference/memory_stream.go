package reference

import (
	"slices"
	"strconv"
	"strings"
)

// streamID is the id of a stream's entry.
type streamID struct{ ms, seq uint64 }

func (id streamID) String() string {
	return strconv.FormatUint(id.ms, 10) + "-" + strconv.FormatUint(id.seq, 10)
}

var badStreamID = &Error{"ERR Invalid stream ID specified as stream command argument"}

// parseStreamID reads "<ms>-<seq>", or "<ms>".
func parseStreamID(s string) (id streamID, e *Error) {
	ms, seq, two := strings.Cut(s, "-")
	var err error
	if id.ms, err = strconv.ParseUint(ms, 10, 64); err != nil {
		return id, badStreamID
	}
	if two {
		if id.seq, err = strconv.ParseUint(seq, 10, 64); err != nil {
			return id, badStreamID
		}
	}
	return id, nil
}

// xadd appends an entry. MAXLEN is taken exactly, with ~ too, which allows that.
func (m *Memory) xadd(args []string) (any, *Error) {
	key, rest, limit := args[0], args[1:], int64(-1)
	if strings.EqualFold(rest[0], "MAXLEN") {
		rest = rest[1:]
		if rest[0] == "~" || rest[0] == "=" {
			rest = rest[1:]
		}
		var err *Error
		if limit, err = number64(rest[0]); err != nil {
			return nil, err
		}
		if limit < 0 {
			return nil, &Error{"ERR The MAXLEN argument must be >= 0."}
		}
		rest = rest[1:]
	}
	if len(rest) < 3 || len(rest)%2 == 0 {
		return nil, &Error{"ERR wrong number of arguments for 'xadd' command"}
	}
	if rest[0] != "*" {
		return nil, badStreamID
	}
	v, err := m.make(key, typeStream)
	if err != nil {
		return nil, err
	}
	id := streamID{ms: uint64(max(m.now().UnixMilli(), 0))}
	if id.ms <= v.last.ms {
		id = streamID{v.last.ms, v.last.seq + 1}
	}
	v.last = id
	v.entries = append(v.entries, StreamEntry{ID: id.String(), Fields: slices.Clone(rest[1:])})
	if limit >= 0 && int64(len(v.entries)) > limit {
		v.entries = v.entries[int64(len(v.entries))-limit:]
	}
	return id.String(), nil
}

func (m *Memory) xdel(args []string) (any, *Error) {
	v, err := m.find(args[0], typeStream)
	if err != nil || v == nil {
		return int64(0), err
	}
	gone := make([]string, 0, len(args)-1)
	for _, s := range args[1:] {
		id, err := parseStreamID(s)
		if err != nil {
			return nil, err
		}
		gone = append(gone, id.String())
	}
	before := len(v.entries)
	for _, id := range gone {
		if i := slices.IndexFunc(v.entries, func(e StreamEntry) bool { return e.ID == id }); i == 0 {
			v.entries = v.entries[1:]
		} else if i > 0 {
			v.entries = slices.Delete(v.entries, i, i+1)
		}
	}
	return int64(before - len(v.entries)), nil
}

// xrange answers entries of the whole stream: from "-" to "+" alone.
func (m *Memory) xrange(args []string) (any, *Error) { return m.entries(args, "-", "+", false) }

func (m *Memory) xrevrange(args []string) (any, *Error) { return m.entries(args, "+", "-", true) }

func (m *Memory) entries(args []string, first, last string, newestFirst bool) (any, *Error) {
	if args[1] != first || args[2] != last {
		return nil, badStreamID
	}
	limit := int64(-1)
	if len(args) > 3 {
		if !strings.EqualFold(args[3], "COUNT") {
			return nil, syntax
		}
		var err *Error
		if limit, err = number64(args[4]); err != nil {
			return nil, err
		}
	}
	v, err := m.find(args[0], typeStream)
	if err != nil {
		return nil, err
	}
	list := []any{}
	for i := 0; v != nil && i < len(v.entries) && (limit < 0 || int64(i) < limit); i++ {
		e := v.entries[i]
		if newestFirst {
			e = v.entries[len(v.entries)-1-i]
		}
		fields := make([]any, len(e.Fields))
		for j, f := range e.Fields {
			fields[j] = f
		}
		list = append(list, []any{e.ID, fields})
	}
	return list, nil
}
