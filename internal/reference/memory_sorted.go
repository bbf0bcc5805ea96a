package reference

import (
	"cmp"
	"math"
	"slices"
	"strconv"
	"strings"
)

var notFloat = &Error{"ERR value is not a valid float"}

// score reads a score as Redis does.
func score(s string, wrong *Error) (float64, *Error) {
	n, length := strtod(s)
	if length == 0 || length != len(s) || math.IsNaN(n) {
		return 0, wrong
	}
	return n, nil
}

// zadd sets the score of one member; with NX that of a new one alone.
func (m *Memory) zadd(args []string) (any, *Error) {
	onlyNew := false
	if len(args) == 4 {
		if !strings.EqualFold(args[1], "NX") {
			return nil, syntax
		}
		onlyNew, args = true, slices.Delete(slices.Clone(args), 1, 2)
	}
	n, err := score(args[1], notFloat)
	if err != nil {
		return nil, err
	}
	v, err := m.make(args[0], typeSorted)
	if err != nil {
		return nil, err
	}
	_, had := v.scores[args[2]]
	if !had || !onlyNew {
		v.scores[args[2]] = n
	}
	if had {
		return int64(0), nil
	}
	return int64(1), nil
}

func (m *Memory) zrem(args []string) (any, *Error) {
	v, err := m.find(args[0], typeSorted)
	if err != nil || v == nil {
		return int64(0), err
	}
	before := len(v.scores)
	for _, member := range args[1:] {
		delete(v.scores, member)
	}
	m.drop(args[0], v)
	return int64(before - len(v.scores)), nil
}

func (m *Memory) zcard(args []string) (any, *Error) {
	v, err := m.find(args[0], typeSorted)
	if err != nil || v == nil {
		return int64(0), err
	}
	return int64(len(v.scores)), nil
}

// upTo are the members with at most a score, in order.
func (v *value) upTo(most float64) []any {
	var names []string
	for name, n := range v.scores {
		if n <= most {
			names = append(names, name)
		}
	}
	slices.SortFunc(names, func(a, b string) int {
		return cmp.Or(cmp.Compare(v.scores[a], v.scores[b]), strings.Compare(a, b))
	})
	list := make([]any, len(names))
	for i, name := range names {
		list[i] = name
	}
	return list
}

// zrange answers the members from one place to another, counted from the lowest.
func (m *Memory) zrange(args []string) (any, *Error) {
	first, err := number64(args[1])
	if err != nil {
		return nil, err
	}
	last, err := number64(args[2])
	if err != nil {
		return nil, err
	}
	v, err := m.find(args[0], typeSorted)
	if err != nil {
		return nil, err
	}
	if v == nil || first < 0 || last < first {
		return []any{}, nil
	}
	list := v.upTo(math.Inf(1))
	return list[min(first, int64(len(list))):min(last+1, int64(len(list)))], nil
}

// zrangebyscore answers the members from -inf to a score.
func (m *Memory) zrangebyscore(args []string) (any, *Error) {
	notRange := &Error{"ERR min or max is not a float"}
	if args[1] != "-inf" {
		return nil, notRange
	}
	most, err := score(args[2], notRange)
	if err != nil {
		return nil, err
	}
	limit := math.MaxInt
	if len(args) > 3 {
		if !strings.EqualFold(args[3], "LIMIT") || args[4] != "0" {
			return nil, syntax
		}
		var wrong error
		if limit, wrong = strconv.Atoi(args[5]); wrong != nil || limit < 0 {
			return nil, notInteger
		}
	}
	v, err := m.find(args[0], typeSorted)
	if err != nil {
		return nil, err
	}
	if v == nil {
		return []any{}, nil
	}
	list := v.upTo(most)
	return list[:min(limit, len(list))], nil
}
