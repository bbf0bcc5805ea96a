package luabox

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"

	lua "github.com/yuin/gopher-lua"
	"github.com/yuin/gopher-lua/ast"
	"github.com/yuin/gopher-lua/parse"
)

// Names that no script can write. What they stand for is called in place of two
// instructions that could take any amount of memory at once: s .. s, and
// t[60000000] = 1, for which the Lua machine would fill an array.
const (
	concatName = "\x00concat"
	indexName  = "\x00index"
)

// maxNesting bounds the depth of a text's syntax tree. Redis has 200 levels, but
// counts fewer things.
const maxNesting = 2000

// freeIndex is the highest array index that costs too little to look at.
const freeIndex = 1 << 14

func compile(text string) (proto *lua.FunctionProto, err error) {
	defer func() {
		if r := recover(); r != nil {
			proto, err = nil, syntaxError(0, "%v", r)
		}
	}()
	if len(text) > MaxText {
		return nil, syntaxError(0, "the text has %d bytes, more than %d", len(text), MaxText)
	}
	list, err := parse.Parse(strings.NewReader(text), chunk)
	if err != nil {
		var p *parse.Error
		if !errors.As(err, &p) {
			return nil, syntaxError(0, "%v", err)
		}
		if p.Pos.Line == parse.EOF {
			return nil, syntaxError(1+strings.Count(text, "\n"), "%s at the end", p.Message)
		}
		return nil, syntaxError(p.Pos.Line, "%s near '%s'", p.Message, p.Token)
	}
	var g guard
	g.block(list)
	if g.err != nil {
		return nil, g.err
	}
	proto, err = lua.Compile(list, chunk)
	if err != nil {
		var c *lua.CompileError
		if errors.As(err, &c) {
			return nil, syntaxError(c.Line, "%s", c.Message)
		}
		return nil, syntaxError(0, "%v", err)
	}
	withoutTailCalls(proto)
	return proto, nil
}

// withoutTailCalls makes tail calls plain ones. The Lua machine counts them, and
// describes each when an error passes: after a loop of millions that alone would
// take all memory.
func withoutTailCalls(proto *lua.FunctionProto) {
	const opcode = 26 // bits below it
	for i, inst := range proto.Code {
		if inst>>opcode == uint32(lua.OP_TAILCALL) {
			proto.Code[i] = inst&(1<<opcode-1) | uint32(lua.OP_CALL)<<opcode
		}
	}
	for _, p := range proto.FunctionPrototypes {
		withoutTailCalls(p)
	}
}

func syntaxError(line int, format string, args ...any) *Error {
	return &Error{Line: line, Message: fmt.Sprintf(format, args...), causes: []error{ErrSyntax}}
}

// guard walks over a syntax tree, puts calls in place of what must be bounded,
// and refuses what Redis does not know.
type guard struct {
	depth int
	err   error
}

func (g *guard) fail(line int, format string, args ...any) {
	if g.err == nil {
		g.err = syntaxError(line, format, args...)
	}
}

func (g *guard) enter(at ast.PositionHolder) bool {
	g.depth++
	if g.depth > maxNesting {
		g.fail(at.Line(), "chunk has too many syntax levels")
	}
	return g.err == nil
}

func (g *guard) block(list []ast.Stmt) {
	for _, s := range list {
		if g.enter(s) {
			g.statement(s)
		}
		g.depth--
	}
}

func (g *guard) statement(s ast.Stmt) {
	switch s := s.(type) {
	case *ast.AssignStmt:
		for _, l := range s.Lhs {
			if a, ok := l.(*ast.AttrGetExpr); ok {
				a.Object, a.Key = g.expr(a.Object), g.key(g.expr(a.Key))
			}
		}
		g.list(s.Rhs)
	case *ast.LocalAssignStmt:
		g.list(s.Exprs)
	case *ast.FuncCallStmt:
		s.Expr = g.expr(s.Expr)
	case *ast.DoBlockStmt:
		g.block(s.Stmts)
	case *ast.WhileStmt:
		s.Condition = g.expr(s.Condition)
		g.block(s.Stmts)
	case *ast.RepeatStmt:
		s.Condition = g.expr(s.Condition)
		g.block(s.Stmts)
	case *ast.IfStmt:
		s.Condition = g.expr(s.Condition)
		g.block(s.Then)
		g.block(s.Else)
	case *ast.NumberForStmt:
		s.Init, s.Limit, s.Step = g.expr(s.Init), g.expr(s.Limit), g.expr(s.Step)
		g.block(s.Stmts)
	case *ast.GenericForStmt:
		g.list(s.Exprs)
		g.block(s.Stmts)
	case *ast.FuncDefStmt:
		g.block(s.Func.Stmts)
	case *ast.ReturnStmt:
		g.list(s.Exprs)
	case *ast.GotoStmt, *ast.LabelStmt:
		g.fail(s.Line(), "goto and labels are not in Lua 5.1")
	}
}

func (g *guard) list(exprs []ast.Expr) {
	for i, e := range exprs {
		exprs[i] = g.expr(e)
	}
}

func (g *guard) expr(e ast.Expr) ast.Expr {
	if e == nil {
		return nil
	}
	defer func() { g.depth-- }()
	if !g.enter(e) {
		return e
	}
	switch e := e.(type) {
	case *ast.AttrGetExpr:
		e.Object, e.Key = g.expr(e.Object), g.expr(e.Key)
	case *ast.TableExpr:
		for _, f := range e.Fields {
			if f.Key != nil {
				f.Key = g.key(g.expr(f.Key))
			}
			f.Value = g.expr(f.Value)
		}
	case *ast.FuncCallExpr:
		e.Func, e.Receiver = g.expr(e.Func), g.expr(e.Receiver)
		g.list(e.Args)
	case *ast.LogicalOpExpr:
		e.Lhs, e.Rhs = g.expr(e.Lhs), g.expr(e.Rhs)
	case *ast.RelationalOpExpr:
		e.Lhs, e.Rhs = g.expr(e.Lhs), g.expr(e.Rhs)
	case *ast.ArithmeticOpExpr:
		e.Lhs, e.Rhs = g.expr(e.Lhs), g.expr(e.Rhs)
	case *ast.UnaryMinusOpExpr:
		e.Expr = g.expr(e.Expr)
	case *ast.UnaryNotOpExpr:
		e.Expr = g.expr(e.Expr)
	case *ast.UnaryLenOpExpr:
		e.Expr = g.expr(e.Expr)
	case *ast.FunctionExpr:
		g.block(e.Stmts)
	case *ast.StringConcatOpExpr:
		return g.concat(e)
	}
	return e
}

// concat makes one call of a .. b .. c, which is a .. (b .. c).
func (g *guard) concat(e *ast.StringConcatOpExpr) ast.Expr {
	const most = 100 // a call has its arguments in registers, of which there are 200
	args := []ast.Expr{e.Lhs}
	rest := e.Rhs
	for len(args) < most {
		next, ok := rest.(*ast.StringConcatOpExpr)
		if !ok {
			break
		}
		args, rest = append(args, next.Lhs), next.Rhs
	}
	args = append(args, rest)
	g.list(args)
	for _, a := range args { // an operand is one value
		switch a := a.(type) {
		case *ast.FuncCallExpr:
			a.AdjustRet = true
		case *ast.Comma3Expr:
			a.AdjustRet = true
		}
	}
	return g.call(concatName, e, args)
}

// key guards the key of a write, unless the text shows that it is harmless.
func (g *guard) key(e ast.Expr) ast.Expr {
	switch k := e.(type) {
	case *ast.StringExpr:
		return e
	case *ast.NumberExpr:
		if n, err := strconv.ParseFloat(k.Value, 64); err == nil && math.Abs(n) <= freeIndex {
			return e
		}
	case *ast.ArithmeticOpExpr: // #t + 1
		_, length := k.Lhs.(*ast.UnaryLenOpExpr)
		if n, ok := k.Rhs.(*ast.NumberExpr); ok && length && k.Operator == "+" && n.Value == "1" {
			return e
		}
	}
	return g.call(indexName, e, []ast.Expr{e})
}

func (g *guard) call(name string, at ast.Expr, args []ast.Expr) ast.Expr {
	fn := &ast.IdentExpr{Value: name}
	c := &ast.FuncCallExpr{Func: fn, Args: args, AdjustRet: true}
	for _, n := range []ast.PositionHolder{fn, c} {
		n.SetLine(at.Line())
		n.SetLastLine(at.LastLine())
	}
	return c
}
