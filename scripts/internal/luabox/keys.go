package luabox

import (
	"context"
	"slices"
)

// Keys returns the names of all keys that the store holds: what was written, and
// what was copied from the source so far.
func (s *Store) Keys(context.Context) ([]string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	reply, err := s.do([]string{"KEYS", "*"})
	if err != nil {
		return nil, err
	}
	var names []string
	if list, ok := reply.([]any); ok {
		for _, v := range list {
			if name, ok := v.(string); ok {
				names = append(names, name)
			}
		}
	}
	slices.Sort(names)
	return names, nil
}
