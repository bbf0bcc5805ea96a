package luabox

import (
	"math"

	lua "github.com/yuin/gopher-lua"
)

// world makes the globals of a script: what Redis 7 lets scripts see, without
// what the embedded store or the rules of this project exclude. Nothing of it
// can be written to.
func (b *box) world(keys, args []string) *lua.LTable {
	l := b.lua
	for _, open := range []lua.LGFunction{lua.OpenBase, lua.OpenTable, lua.OpenString, lua.OpenMath} {
		l.Push(l.NewFunction(open))
		l.Call(0, 0)
	}
	theirs := l.G.Global
	globals := l.NewTable()
	for _, name := range []string{"ipairs", "next", "pairs", "rawequal", "rawget", "type", "_VERSION"} {
		globals.RawSetString(name, theirs.RawGetString(name))
	}
	b.functions(globals, map[string]lua.LGFunction{
		"assert": b.baseAssert, "error": b.baseError, "getmetatable": b.baseGetMetatable, "pcall": b.basePCall,
		"rawset": b.baseRawSet, "select": b.baseSelect, "setmetatable": b.baseSetMetatable, "tonumber": b.baseToNumber,
		"tostring": b.baseToString, "unpack": b.baseUnpack, "xpcall": b.baseXPCall,
	})

	table := b.pick(theirs, "table", "getn", "maxn", "sort")
	b.functions(table, map[string]lua.LGFunction{"concat": b.tableConcat, "insert": b.tableInsert, "remove": b.tableRemove})
	mathlib := b.pick(theirs, "math", "abs", "acos", "asin", "atan", "atan2", "ceil", "cos", "cosh", "deg", "exp", "floor",
		"fmod", "frexp", "ldexp", "log", "log10", "max", "min", "mod", "modf", "pi", "pow", "rad", "sin", "sinh", "sqrt", "tan", "tanh")
	b.functions(mathlib, map[string]lua.LGFunction{"random": b.mathRandom, "randomseed": b.mathRandomSeed})
	mathlib.RawSetString("huge", lua.LNumber(math.Inf(1)))
	str := l.NewTable()
	b.functions(str, b.stringFunctions())
	meta := l.NewTable()
	meta.RawSetString("__index", str)
	l.SetMetatable(lua.LString(""), meta)

	globals.RawSetString("table", b.protect(table))
	globals.RawSetString("math", b.protect(mathlib))
	globals.RawSetString("string", b.protect(str))
	globals.RawSetString("cjson", b.protect(b.cjson()))
	globals.RawSetString("redis", b.protect(b.redis()))
	globals.RawSetString("KEYS", b.strings(keys))
	globals.RawSetString("ARGV", b.strings(args))

	missing := l.NewTable()
	missing.RawSetString("__index", l.NewFunction(func(l *lua.LState) int {
		b.fail("Script attempted to access nonexistent global variable '%s'", tostring(l.Get(2)))
		return 0
	}))
	l.SetMetatable(globals, missing)
	env := b.protect(globals)
	globals.RawSetString("_G", env)
	env.RawSetString(concatName, l.NewFunction(b.concat))
	env.RawSetString(indexName, l.NewFunction(b.index))
	return env
}

func (b *box) functions(t *lua.LTable, list map[string]lua.LGFunction) {
	for name, f := range list {
		t.RawSetString(name, b.lua.NewFunction(f))
	}
}

func (b *box) pick(globals *lua.LTable, library string, names ...string) *lua.LTable {
	t := b.lua.NewTable()
	if from, ok := globals.RawGetString(library).(*lua.LTable); ok {
		for _, name := range names {
			t.RawSetString(name, from.RawGetString(name))
		}
	}
	return t
}

func (b *box) strings(list []string) *lua.LTable {
	t := b.lua.CreateTable(len(list), 0)
	for _, s := range list {
		t.Append(lua.LString(s))
	}
	return t
}

const readonlyMessage = "Attempt to modify a readonly table"

// protect returns an empty table through which the given one is read and which
// refuses writes.
func (b *box) protect(t *lua.LTable) *lua.LTable {
	front, meta := b.lua.NewTable(), b.lua.NewTable()
	meta.RawSetString("__index", t)
	meta.RawSetString("__newindex", b.lua.NewFunction(func(l *lua.LState) int {
		b.fail(readonlyMessage)
		return 0
	}))
	b.lua.SetMetatable(front, meta)
	b.readonly[front] = true
	return front
}

func (b *box) baseAssert(l *lua.LState) int {
	b.need(1, "assert")
	if !l.ToBool(1) {
		message := "assertion failed!"
		if l.Get(2) != lua.LNil {
			message = b.str(2, "assert")
		}
		b.fail("%s", message)
	}
	return l.GetTop()
}

func (b *box) baseError(l *lua.LState) int {
	v := l.Get(1)
	level := 1
	if l.Get(2) != lua.LNil {
		level = b.integer(2, "error")
	}
	if n, ok := v.(lua.LNumber); ok {
		v = lua.LString(number(float64(n)))
	}
	if s, ok := v.(lua.LString); ok && level > 0 {
		v = lua.LString(b.where(level)) + s
	}
	b.raised, b.raisedLine = v, b.line()
	l.Error(v, 0)
	return 0
}

// basePCall is the one of Redis 7: of an error that is a table with a text in
// err it gives the text.
func (b *box) basePCall(l *lua.LState) int {
	b.need(1, "pcall")
	return b.protected(l, l.GetTop()-1, nil)
}

func (b *box) baseXPCall(l *lua.LState) int {
	handler, ok := l.Get(2).(*lua.LFunction)
	l.SetTop(1)
	if !ok { // nothing to call in case of an error
		handler = l.NewFunction(func(l *lua.LState) int { return 1 })
	}
	return b.protected(l, 0, handler)
}

func (b *box) protected(l *lua.LState, args int, handler *lua.LFunction) int {
	if b.pcalls >= pcallDepth {
		l.Error(lua.LString("C stack overflow"), 0)
	}
	b.pcalls++
	err := l.PCall(args, lua.MultRet, handler)
	b.pcalls--
	if err == nil {
		l.Insert(lua.LTrue, 1)
		return l.GetTop()
	}
	l.SetTop(0)
	l.Push(lua.LFalse)
	var object lua.LValue = lua.LString(err.Error())
	if raised, ok := err.(*lua.ApiError); ok {
		object = raised.Object
	}
	if t, ok := object.(*lua.LTable); ok && handler == nil {
		if s, ok := asText(t.RawGetString("err")); ok {
			object = lua.LString(s)
		}
	}
	l.Push(object)
	return 2
}

func (b *box) baseRawSet(l *lua.LState) int {
	t := b.table(1, "rawset")
	b.need(3, "rawset")
	if b.readonly[t] {
		b.fail(readonlyMessage)
	}
	if n, ok := l.Get(2).(lua.LNumber); ok && n > freeIndex && n < lua.LNumber(lua.MaxArrayIndex) {
		b.farIndex(int(n))
	}
	l.RawSet(t, l.Get(2), l.Get(3))
	l.SetTop(1)
	return 1
}

func (b *box) baseSelect(l *lua.LState) int {
	top := l.GetTop()
	if s, ok := l.Get(1).(lua.LString); ok && len(s) > 0 && s[0] == '#' {
		l.Push(lua.LNumber(top - 1))
		return 1
	}
	n := b.integer(1, "select")
	switch {
	case n < 0:
		n = top + n
	case n > top:
		n = top
	}
	if n < 1 {
		b.badArgument(1, "select", "index out of range")
	}
	return top - n
}

func (b *box) baseGetMetatable(l *lua.LState) int {
	b.need(1, "getmetatable")
	if hidden := l.GetMetaField(l.Get(1), "__metatable"); hidden != lua.LNil {
		l.Push(hidden)
	} else {
		l.Push(l.GetMetatable(l.Get(1)))
	}
	return 1
}

func (b *box) baseSetMetatable(l *lua.LState) int {
	t := b.table(1, "setmetatable")
	mt := l.Get(2)
	if _, ok := mt.(*lua.LTable); !ok && (mt != lua.LNil || l.GetTop() < 2) {
		b.badArgument(2, "setmetatable", "nil or table expected")
	}
	if b.readonly[t] {
		b.fail(readonlyMessage)
	}
	if l.GetMetaField(t, "__metatable") != lua.LNil {
		b.fail("cannot change a protected metatable")
	}
	l.SetMetatable(t, mt)
	l.SetTop(1)
	return 1
}

func (b *box) baseToNumber(l *lua.LState) int {
	base := 10
	if l.Get(2) != lua.LNil {
		base = b.integer(2, "tonumber")
	}
	if base != 10 {
		s := b.str(1, "tonumber")
		if base < 2 || base > 36 {
			b.badArgument(2, "tonumber", "base out of range")
		}
		return b.pushNumber(parseBase(s, base))
	}
	b.need(1, "tonumber")
	switch v := l.Get(1).(type) {
	case lua.LNumber:
		l.Push(v)
		return 1
	case lua.LString:
		return b.pushNumber(parseNumber(string(v)))
	}
	l.Push(lua.LNil)
	return 1
}

func (b *box) pushNumber(n float64, ok bool) int {
	if ok {
		b.lua.Push(lua.LNumber(n))
	} else {
		b.lua.Push(lua.LNil)
	}
	return 1
}

func (b *box) baseToString(l *lua.LState) int {
	b.need(1, "tostring")
	l.Push(b.toString(l.Get(1)))
	return 1
}

// toString follows __tostring.
func (b *box) toString(v lua.LValue) lua.LValue {
	f := b.lua.GetMetaField(v, "__tostring")
	if f == lua.LNil {
		return lua.LString(tostring(v))
	}
	b.lua.Push(f)
	b.lua.Push(v)
	b.lua.Call(1, 1)
	s := b.lua.Get(-1)
	b.lua.Pop(1)
	return s
}

func (b *box) baseUnpack(l *lua.LState) int {
	const most = 8000 // values that Redis has room for in one call
	t := b.table(1, "unpack")
	top, first, last := l.GetTop(), 1, 0
	if l.Get(2) != lua.LNil {
		first = b.integer(2, "unpack")
	}
	if l.Get(3) != lua.LNil {
		last = b.integer(3, "unpack")
	} else {
		last = t.Len()
	}
	if first > last {
		return 0
	}
	n := int64(last) - int64(first) + 1
	if n > most-int64(top) {
		b.fail("too many results to unpack")
	}
	b.made += 16 * uint64(n)
	for i := range int(n) {
		l.Push(l.RawGetInt(t, first+i))
	}
	return int(n)
}
