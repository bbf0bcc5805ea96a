package luabox

import lua "github.com/yuin/gopher-lua"

// index looks at the key of a write. The Lua machine fills arrays up to the key;
// in Redis a key far away costs nothing, but no script needs it.
func (b *box) index(l *lua.LState) int {
	k := l.Get(1)
	if n, ok := k.(lua.LNumber); ok && n > freeIndex && n < lua.LNumber(lua.MaxArrayIndex) {
		b.farIndex(int(n))
	}
	l.SetTop(0)
	l.Push(k)
	return 1
}

const maxIndex = 1 << 20

func (b *box) farIndex(n int) {
	if n > maxIndex {
		b.stop(ErrMemory, "%s: table index %d", ErrMemory.Error(), n)
	}
	b.steps++
	b.made += 16 * uint64(n)
	if b.steps%64 == 0 { // arrays that are filled one by one come here too
		b.look()
	}
}

// concat is the .. operator.
func (b *box) concat(l *lua.LState) int {
	n := l.GetTop()
	total := int64(0)
	for i := 1; i <= n; i++ {
		s, ok := asText(l.Get(i))
		if !ok {
			return b.concatMeta(l, n)
		}
		total += int64(len(s))
	}
	b.charge(total)
	out := make([]byte, 0, total)
	for i := 1; i <= n; i++ {
		s, _ := asText(l.Get(i))
		out = append(out, s...)
	}
	l.Push(lua.LString(out))
	return 1
}

// concatMeta goes from right to left, as Lua does, where an operand is no text.
func (b *box) concatMeta(l *lua.LState, n int) int {
	right := l.Get(n)
	for i := n - 1; i >= 1; i-- {
		left := l.Get(i)
		x, okX := asText(left)
		y, okY := asText(right)
		if okX && okY {
			b.charge(int64(len(x)) + int64(len(y)))
			right = lua.LString(x + y)
			continue
		}
		f := l.GetMetaField(left, "__concat")
		if f == lua.LNil {
			f = l.GetMetaField(right, "__concat")
		}
		if f == lua.LNil {
			wrong := left
			if okX {
				wrong = right
			}
			b.fail("attempt to concatenate a %s value", wrong.Type().String())
		}
		l.Push(f)
		l.Push(left)
		l.Push(right)
		l.Call(2, 1)
		right = l.Get(-1)
		l.Pop(1)
	}
	l.Push(right)
	return 1
}

func (b *box) tableConcat(l *lua.LState) int {
	t, sep := b.table(1, "concat"), ""
	if l.Get(2) != lua.LNil {
		sep = b.str(2, "concat")
	}
	first, last := 1, t.Len()
	if l.Get(3) != lua.LNil {
		first = b.integer(3, "concat")
	}
	if l.Get(4) != lua.LNil {
		last = b.integer(4, "concat")
	}
	var out []byte
	for i := first; i <= last; i++ {
		s, ok := asText(t.RawGetInt(i))
		if !ok {
			b.fail("invalid value (%s) at index %d in table for 'concat'", t.RawGetInt(i).Type().String(), i)
		}
		b.charge(int64(len(s)) + int64(len(sep)))
		b.tick()
		out = append(out, s...)
		if i != last {
			out = append(out, sep...)
		}
	}
	l.Push(lua.LString(out))
	return 1
}

func (b *box) tableInsert(l *lua.LState) int {
	t := b.table(1, "insert")
	if b.readonly[t] {
		b.fail(readonlyMessage)
	}
	switch l.GetTop() {
	case 2:
		t.Append(l.Get(2))
	case 3:
		pos, n := b.integer(2, "insert"), t.Len()
		if pos > freeIndex && pos > n+1 {
			b.farIndex(pos)
		}
		if pos > n {
			t.RawSetInt(pos, l.Get(3))
			return 0
		}
		for i := n; i >= pos; i-- { // also below 1, as Lua does
			t.RawSetInt(i+1, t.RawGetInt(i))
			b.tick()
		}
		t.RawSetInt(pos, l.Get(3))
	default:
		b.fail("wrong number of arguments to 'insert'")
	}
	return 0
}

func (b *box) tableRemove(l *lua.LState) int {
	t := b.table(1, "remove")
	n := t.Len()
	pos := b.optional(2, "remove", n)
	if pos < 1 || pos > n {
		return 0
	}
	v := t.RawGetInt(pos)
	for i := pos; i < n; i++ {
		t.RawSetInt(i, t.RawGetInt(i+1))
		b.tick()
	}
	t.RawSetInt(n, lua.LNil)
	l.Push(v)
	return 1
}
