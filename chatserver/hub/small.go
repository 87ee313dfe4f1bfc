package hub

import "slices"

// Most people are on one connection, with one session, in a few rooms. For so few a
// slice is a tenth of the memory of a map, and there are as many as there are people.

// tally counts by name.
type tally []count

type count struct {
	name string
	n    int
}

// add counts one more of name and returns how many there are.
func (t *tally) add(name string) int {
	i := t.index(name)
	if i < 0 {
		*t = append(*t, count{name, 1})
		return 1
	}
	(*t)[i].n++
	return (*t)[i].n
}

// remove counts one less of name and returns how many are left.
func (t *tally) remove(name string) int {
	i := t.index(name)
	if i < 0 {
		return 0
	}
	if (*t)[i].n--; (*t)[i].n > 0 {
		return (*t)[i].n
	}
	*t = slices.Delete(*t, i, i+1)
	return 0
}

func (t tally) has(name string) bool { return t.index(name) >= 0 }

func (t tally) index(name string) int {
	return slices.IndexFunc(t, func(c count) bool { return c.name == name })
}

// roomSet is the rooms of one client.
type roomSet []*room

// named returns the room of that name; nil if it is not there.
func (s roomSet) named(name string) *room {
	for _, r := range s {
		if r.name == name {
			return r
		}
	}
	return nil
}

func (s *roomSet) remove(r *room) {
	*s = slices.DeleteFunc(*s, func(other *room) bool { return other == r })
}
