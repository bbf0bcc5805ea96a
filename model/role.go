package model

import "fmt"

// Role says what somebody may do over the API. Each role may do what those
// before it may. The zero value may do nothing.
type Role string

// The roles, the least first.
const (
	RoleViewer   Role = "viewer"   // reads values, alarms, records and metrics
	RoleOperator Role = "operator" // gives commands, acknowledges and closes alarms
	RoleEngineer Role = "engineer" // enables models, changes definitions and sync modes
	RoleAdmin    Role = "admin"    // changes scripts, reads the audit journal
)

// Roles returns all roles, the least first.
func Roles() []Role { return []Role{RoleViewer, RoleOperator, RoleEngineer, RoleAdmin} }

func (r Role) rank() int {
	for i, role := range Roles() {
		if r == role {
			return i + 1
		}
	}
	return 0
}

// Valid reports whether r is one of the roles.
func (r Role) Valid() bool { return r.rank() > 0 }

// Covers reports whether r may do what needs the role least. Nothing covers a
// role that does not exist, nor does one that does not exist cover anything.
func (r Role) Covers(least Role) bool { return least.Valid() && r.rank() >= least.rank() }

// ParseRole reads the name of a role.
func ParseRole(s string) (Role, error) {
	if r := Role(s); r.Valid() {
		return r, nil
	}
	return "", fmt.Errorf("%w: role %.40q: want viewer, operator, engineer or admin", ErrInvalid, s)
}
