package reference

import (
	"maps"
	"math"
	"slices"
	"strconv"
	"time"
)

func (m *Memory) time([]string) (any, *Error) {
	now := m.now()
	return []any{strconv.FormatInt(now.Unix(), 10), strconv.Itoa(now.Nanosecond() / 1000)}, nil
}

func (m *Memory) get(args []string) (any, *Error) {
	v, err := m.find(args[0], typeString)
	if v == nil {
		return nil, err
	}
	return v.text, nil
}

func (m *Memory) mget(args []string) (any, *Error) {
	list := make([]any, len(args))
	for i, key := range args {
		if v := m.at(key); v != nil && v.kind == typeString {
			list[i] = v.text
		}
	}
	return list, nil
}

func (m *Memory) set(args []string) (any, *Error) {
	v := &value{kind: typeString, text: args[1]}
	if len(args) == 4 {
		n, err := number64(args[3])
		if err != nil {
			return nil, err
		}
		unit := time.Millisecond
		switch args[2] {
		case "PX":
		case "EX":
			unit = time.Second
		default:
			return nil, syntax
		}
		if n <= 0 || n > int64(math.MaxInt64/unit) {
			return nil, &Error{"ERR invalid expire time in 'set' command"}
		}
		v.expires = m.now().Add(time.Duration(n) * unit)
	}
	m.keys[args[0]] = v
	return "OK", nil
}

func (m *Memory) incr(args []string) (any, *Error) { return m.add(args[0], 1) }

func (m *Memory) incrBy(args []string) (any, *Error) {
	n, err := number64(args[1])
	if err != nil {
		return nil, err
	}
	return m.add(args[0], n)
}

func (m *Memory) add(key string, n int64) (any, *Error) {
	v, err := m.find(key, typeString)
	if err != nil {
		return nil, err
	}
	var before int64
	if v != nil {
		if before, err = number64(v.text); err != nil {
			return nil, err
		}
	}
	sum, err := plus(before, n)
	if err != nil {
		return nil, err
	}
	if v == nil {
		v = &value{kind: typeString}
		m.keys[key] = v
	}
	v.text = strconv.FormatInt(sum, 10)
	return sum, nil
}

// number64 reads an integer as Redis does: without sign +, spaces and leading zeros.
func number64(s string) (int64, *Error) {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || strconv.FormatInt(n, 10) != s {
		return 0, notInteger
	}
	return n, nil
}

func plus(a, b int64) (int64, *Error) {
	if b > 0 && a > math.MaxInt64-b || b < 0 && a < math.MinInt64-b {
		return 0, overflow
	}
	return a + b, nil
}

func (m *Memory) del(args []string) (any, *Error) {
	var n int64
	for _, key := range args {
		if m.at(key) != nil {
			delete(m.keys, key)
			n++
		}
	}
	return n, nil
}

func (m *Memory) exists(args []string) (any, *Error) {
	var n int64
	for _, key := range args {
		if m.at(key) != nil {
			n++
		}
	}
	return n, nil
}

func (m *Memory) expire(args []string) (any, *Error) {
	n, err := number64(args[1])
	if err != nil {
		return nil, err
	}
	if n > int64(math.MaxInt64/time.Second) || n < int64(math.MinInt64/time.Second) {
		return nil, &Error{"ERR invalid expire time in 'expire' command"}
	}
	v := m.at(args[0])
	if v == nil {
		return int64(0), nil
	}
	v.expires = m.now().Add(time.Duration(n) * time.Second)
	return int64(1), nil
}

func (m *Memory) hget(args []string) (any, *Error) {
	v, err := m.find(args[0], typeHash)
	if v == nil {
		return nil, err
	}
	if s, ok := v.hash[args[1]]; ok {
		return s, nil
	}
	return nil, nil
}

func (m *Memory) hmget(args []string) (any, *Error) {
	v, err := m.find(args[0], typeHash)
	if err != nil {
		return nil, err
	}
	list := make([]any, len(args)-1)
	for i, field := range args[1:] {
		if v == nil {
			break
		}
		if s, ok := v.hash[field]; ok {
			list[i] = s
		}
	}
	return list, nil
}

func (m *Memory) hgetall(args []string) (any, *Error) {
	v, err := m.find(args[0], typeHash)
	if err != nil {
		return nil, err
	}
	list := []any{}
	if v != nil {
		for _, field := range slices.Sorted(maps.Keys(v.hash)) {
			list = append(list, field, v.hash[field])
		}
	}
	return list, nil
}

func (m *Memory) hkeys(args []string) (any, *Error) { return m.every(args, 0) }

func (m *Memory) hvals(args []string) (any, *Error) { return m.every(args, 1) }

// every is every other one of HGETALL.
func (m *Memory) every(args []string, first int) (any, *Error) {
	all, err := m.hgetall(args)
	if err != nil {
		return nil, err
	}
	list := []any{}
	for i, v := range all.([]any) {
		if i%2 == first {
			list = append(list, v)
		}
	}
	return list, nil
}

func (m *Memory) hexists(args []string) (any, *Error) {
	v, err := m.find(args[0], typeHash)
	if err != nil {
		return nil, err
	}
	if v != nil {
		if _, ok := v.hash[args[1]]; ok {
			return int64(1), nil
		}
	}
	return int64(0), nil
}

func (m *Memory) hlen(args []string) (any, *Error) {
	v, err := m.find(args[0], typeHash)
	if err != nil || v == nil {
		return int64(0), err
	}
	return int64(len(v.hash)), nil
}

func (m *Memory) hset(args []string) (any, *Error) {
	v, err := m.make(args[0], typeHash)
	if err != nil {
		return nil, err
	}
	before := len(v.hash)
	for i := 1; i+1 < len(args); i += 2 {
		v.hash[args[i]] = args[i+1]
	}
	return int64(len(v.hash) - before), nil
}

func (m *Memory) hdel(args []string) (any, *Error) {
	v, err := m.find(args[0], typeHash)
	if err != nil || v == nil {
		return int64(0), err
	}
	before := len(v.hash)
	for _, field := range args[1:] {
		delete(v.hash, field)
	}
	m.drop(args[0], v)
	return int64(before - len(v.hash)), nil
}

func (m *Memory) hincrby(args []string) (any, *Error) {
	n, err := number64(args[2])
	if err != nil {
		return nil, err
	}
	v, err := m.find(args[0], typeHash)
	if err != nil {
		return nil, err
	}
	var before int64
	if v != nil {
		if s, ok := v.hash[args[1]]; ok {
			if before, err = number64(s); err != nil {
				return nil, &Error{"ERR hash value is not an integer"}
			}
		}
	}
	sum, err := plus(before, n)
	if err != nil {
		return nil, err
	}
	if v == nil {
		v, _ = m.make(args[0], typeHash)
	}
	v.hash[args[1]] = strconv.FormatInt(sum, 10)
	return sum, nil
}

func (m *Memory) sadd(args []string) (any, *Error) {
	v, err := m.make(args[0], typeSet)
	if err != nil {
		return nil, err
	}
	before := len(v.set)
	for _, member := range args[1:] {
		v.set[member] = struct{}{}
	}
	return int64(len(v.set) - before), nil
}

func (m *Memory) srem(args []string) (any, *Error) {
	v, err := m.find(args[0], typeSet)
	if err != nil || v == nil {
		return int64(0), err
	}
	before := len(v.set)
	for _, member := range args[1:] {
		delete(v.set, member)
	}
	m.drop(args[0], v)
	return int64(before - len(v.set)), nil
}

func (m *Memory) sismember(args []string) (any, *Error) {
	v, err := m.find(args[0], typeSet)
	if err != nil || v == nil {
		return int64(0), err
	}
	if _, ok := v.set[args[1]]; ok {
		return int64(1), nil
	}
	return int64(0), nil
}

func (m *Memory) lpush(args []string) (any, *Error) {
	v, err := m.make(args[0], typeList)
	if err != nil {
		return nil, err
	}
	v.list = append(v.list, args[1:]...)
	return int64(len(v.list)), nil
}

func (m *Memory) ltrim(args []string) (any, *Error) {
	first, err := number64(args[1])
	if err != nil {
		return nil, err
	}
	last, err := number64(args[2])
	if err != nil {
		return nil, err
	}
	v, err := m.find(args[0], typeList)
	if err != nil {
		return nil, err
	}
	if v == nil {
		return "OK", nil
	}
	n := int64(len(v.list))
	if first < 0 {
		first = max(first+n, 0)
	}
	if last < 0 {
		last += n
	}
	last = min(last, n-1)
	if first > last {
		v.list = nil
	} else {
		v.list = append([]string(nil), v.list[n-1-last:n-first]...)
	}
	m.drop(args[0], v)
	return "OK", nil
}

func (m *Memory) lpop(args []string) (any, *Error) {
	v, err := m.find(args[0], typeList)
	if v == nil {
		return nil, err
	}
	head := v.list[len(v.list)-1]
	v.list = v.list[:len(v.list)-1]
	m.drop(args[0], v)
	return head, nil
}

func (m *Memory) publish(args []string) (any, *Error) {
	m.published = append(m.published, Message{args[0], args[1]})
	return int64(0), nil
}
