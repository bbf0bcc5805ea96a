// Package rule runs and inspects the rules of a site. The scripts evaluate
// them, in the same atomic step that stores the values they look at.
//
// The types are those of package model under shorter names.
package rule

import (
	"context"

	"github.com/voltageems/voltage/model"
	"github.com/voltageems/voltage/scripts"
)

// The vocabulary of package model.
type (
	Rule      = model.Rule        // conditions and actions
	Condition = model.Condition   // compares a point with a threshold
	Action    = model.Action      // one thing that a rule does
	Stats     = scripts.RuleStats // how often a rule acted
)

// Book is the rules of a site.
type Book struct{ plane *scripts.Plane }

// NewBook returns the rules of a site.
func NewBook(p *scripts.Plane) *Book { return &Book{plane: p} }

// Run evaluates a rule now. It acts when the conditions are true, also when
// they were true before, and reports whether it did and what it has to say.
func (b *Book) Run(ctx context.Context, id string) (ran bool, notes []string, err error) {
	return b.plane.RunRule(ctx, id)
}

// Stats returns how often a rule acted.
func (b *Book) Stats(ctx context.Context, id string) (Stats, error) {
	return b.plane.RuleStats(ctx, id)
}
