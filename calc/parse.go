package calc

import (
	"slices"
	"strings"

	"github.com/voltageems/voltage/model"
)

// Bounds of an expression.
const (
	// MaxLength is the longest expression, in bytes.
	MaxLength = 1000
	maxDepth  = 32
)

// Expr is a parsed expression.
type Expr struct {
	root *node
	refs []Ref
	// states are the nodes that remember something, in the order of the text.
	states []*state
}

// Ref is what a name in an expression stands for.
type Ref struct {
	// Model owns the point; empty for the model that the expression belongs to.
	Model string
	// Children says that Name is a point of every child, of those made of Template
	// where there is one.
	Children bool
	Template string
	Name     string

	at int // where it stands in the expression
}

// String returns the reference as an expression has it.
func (r Ref) String() string {
	switch {
	case r.Children && r.Template != "":
		return "children." + r.Template + "." + r.Name
	case r.Children:
		return "children." + r.Name
	case r.Model != "":
		return r.Model + "." + r.Name
	}
	return r.Name
}

// op is what a node does.
type op uint8

const (
	opNumber op = iota
	opRef
	opNegate
	opNot
	opAdd
	opSubtract
	opMultiply
	opDivide
	opLess
	opLessOrEqual
	opGreater
	opGreaterOrEqual
	opEqual
	opNotEqual
	opAnd
	opOr
	opIf
	opAbs
	opMin
	opMax
	opSum
	opAvg
	opSkipBad
	opState
)

type node struct {
	op    op
	at    int
	value float64 // of a number
	ref   int     // place in Expr.refs
	args  []*node
	state *state
}

// Parse reads an expression. Errors wrap model.ErrInvalid and name the column.
func Parse(text string) (*Expr, error) {
	if len(text) > MaxLength {
		return nil, fault(MaxLength, "longer than %d characters", MaxLength)
	}
	p := &parser{text: text, expr: &Expr{}}
	if err := p.advance(); err != nil {
		return nil, err
	}
	if p.token.kind == tokenEnd {
		return nil, fault(0, "empty")
	}
	root, err := p.binary(0)
	if err != nil {
		return nil, err
	}
	if p.token.kind != tokenEnd {
		return nil, p.unexpected("an operator or the end")
	}
	if r := p.expr.firstList(root); r != nil {
		return nil, fault(r.at, "%s", manyText)
	}
	p.expr.root = root
	return p.expr, nil
}

// Refs returns what the expression refers to, each once.
func (e *Expr) Refs() []Ref { return slices.Clone(e.refs) }

const manyText = "this is a list of values: it goes into sum, avg, min or max"

// firstList returns a node that stands for several values where one belongs.
func (e *Expr) firstList(n *node) *node {
	if n.op == opSkipBad || n.op == opRef && e.refs[n.ref].Children {
		return n
	}
	return nil
}

type parser struct {
	text  string
	at    int
	token token // the one to look at
	depth int
	expr  *Expr
}

func (p *parser) advance() (err error) {
	p.token, err = p.next()
	return err
}

func (p *parser) unexpected(want string) error {
	if p.token.kind == tokenEnd {
		return fault(p.token.at, "it ends here: want %s", want)
	}
	return fault(p.token.at, "unexpected %.40q: want %s", p.token.text, want)
}

// is reports whether the token is this sign or word.
func (p *parser) is(text string) bool {
	return (p.token.kind == tokenSign || p.token.kind == tokenWord) && p.token.text == text
}

func (p *parser) expect(sign string) error {
	if !p.is(sign) {
		return p.unexpected(sign)
	}
	return p.advance()
}

// levels are the binary operators from weakest to strongest. Between the second
// and the third stands not.
var levels = []map[string]op{
	{"or": opOr},
	{"and": opAnd},
	{"<": opLess, "<=": opLessOrEqual, ">": opGreater, ">=": opGreaterOrEqual, "==": opEqual, "!=": opNotEqual},
	{"+": opAdd, "-": opSubtract},
	{"*": opMultiply, "/": opDivide},
}

const levelCompare = 2

// binary parses operators of a level and those that bind stronger.
func (p *parser) binary(level int) (*node, error) {
	p.depth++
	defer func() { p.depth-- }()
	if p.depth > maxDepth*len(levels) {
		return nil, fault(p.token.at, "nested too deeply")
	}
	if level == len(levels) {
		return p.unary()
	}
	if level == levelCompare && p.is("not") {
		return p.prefix(opNot, level)
	}
	left, err := p.binary(level + 1)
	for err == nil && (p.token.kind == tokenSign || p.token.kind == tokenWord) {
		o, ok := levels[level][p.token.text]
		if !ok {
			break
		}
		if level == levelCompare && left.op >= opLess && left.op <= opNotEqual && left.at >= 0 {
			return nil, fault(p.token.at, "comparisons are not chained: write a < b and b < c")
		}
		at := p.token.at
		if err = p.advance(); err != nil {
			break
		}
		var right *node
		if right, err = p.binary(level + 1); err == nil {
			left, err = p.make(&node{op: o, at: at, args: []*node{left, right}})
		}
	}
	return left, err
}

// prefix parses what follows an operator that stands before its operand.
func (p *parser) prefix(o op, level int) (*node, error) {
	at := p.token.at
	if err := p.advance(); err != nil {
		return nil, err
	}
	arg, err := p.binary(level)
	if err != nil {
		return nil, err
	}
	return p.make(&node{op: o, at: at, args: []*node{arg}})
}

// make refuses lists where single values belong.
func (p *parser) make(n *node) (*node, error) {
	for _, a := range n.args {
		if list := p.expr.firstList(a); list != nil {
			return nil, fault(list.at, "%s", manyText)
		}
	}
	return n, nil
}

func (p *parser) unary() (*node, error) {
	t := p.token
	switch {
	case p.is("-"):
		return p.prefix(opNegate, len(levels))
	case p.is("("):
		if err := p.advance(); err != nil {
			return nil, err
		}
		n, err := p.binary(0)
		if err != nil {
			return nil, err
		}
		if n.op >= opLess && n.op <= opNotEqual {
			n.at = -1 // in brackets, so that it may be compared
		}
		return n, p.expect(")")
	case t.kind == tokenNumber:
		return &node{op: opNumber, at: t.at, value: t.number}, p.advance()
	case t.kind == tokenDuration:
		return nil, fault(t.at, "a duration belongs into moving_average, rate or integral")
	case t.kind == tokenQuoted:
		owner, name, two := strings.Cut(t.text, ":")
		if !two {
			owner, name = "", owner
		}
		if two && !model.ValidID(owner) || !model.ValidID(name) {
			return nil, fault(t.at, "'%.80s': want 'name' or 'model:name'", t.text)
		}
		return p.reference(Ref{Model: owner, Name: name, at: t.at}), p.advance()
	case t.kind == tokenWord:
		if slices.Contains([]string{"and", "or", "not"}, t.text) {
			return nil, p.unexpected("a value")
		}
		if err := p.advance(); err != nil {
			return nil, err
		}
		if p.is("(") {
			return p.call(t)
		}
		return p.name(t)
	}
	return nil, p.unexpected("a value")
}

// name parses the rest of a reference.
func (p *parser) name(first token) (*node, error) {
	parts := []string{first.text}
	for p.is(".") {
		if err := p.advance(); err != nil {
			return nil, err
		}
		if p.token.kind != tokenWord {
			return nil, p.unexpected("a name")
		}
		parts = append(parts, p.token.text)
		if err := p.advance(); err != nil {
			return nil, err
		}
	}
	for _, part := range parts {
		if !model.ValidID(part) {
			return nil, fault(first.at, "the name %.20s… is too long", part)
		}
	}
	r := Ref{Name: parts[len(parts)-1], at: first.at}
	switch {
	case len(parts) == 1:
	case parts[0] == "children" && len(parts) <= 3:
		r.Children = true
		if len(parts) == 3 {
			r.Template = parts[1]
		}
	case len(parts) == 2:
		r.Model = parts[0]
	default:
		return nil, fault(first.at, "%.80s: want name, model.name, children.name or children.template.name", strings.Join(parts, "."))
	}
	return p.reference(r), nil
}

func (p *parser) reference(r Ref) *node {
	same := func(other Ref) bool { other.at = r.at; return other == r }
	i := slices.IndexFunc(p.expr.refs, same)
	if i < 0 {
		i = len(p.expr.refs)
		p.expr.refs = append(p.expr.refs, r)
	}
	return &node{op: opRef, at: r.at, ref: i}
}
