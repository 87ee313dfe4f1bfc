package ledger

import "slices"

// span is the positions from and to and all between.
type span struct{ from, to uint64 }

// spans are ascending, and no two of them touch.
type spans []span

// add puts n in and says whether it was not there.
func (s *spans) add(n uint64) bool {
	if last := len(*s) - 1; last >= 0 && (*s)[last].to+1 == n {
		(*s)[last].to = n // what comes in order
		return true
	}
	if s.has(n) {
		return false
	}
	s.cover(span{n, n})
	return true
}

func (s spans) has(n uint64) bool {
	i := s.reaching(n)
	return i < len(s) && s[i].from <= n
}

// reaching is the first span that ends at n or after it.
func (s spans) reaching(n uint64) int {
	i, _ := slices.BinarySearchFunc(s, n, func(r span, n uint64) int {
		if r.to < n {
			return -1
		}
		return 1
	})
	return i
}

// cover puts all of r in, and joins what then touches. Positions begin at 1.
func (s *spans) cover(r span) {
	first := s.reaching(r.from - 1)
	next := first
	for next < len(*s) && (*s)[next].from-1 <= r.to {
		r.from, r.to = min(r.from, (*s)[next].from), max(r.to, (*s)[next].to)
		next++
	}
	*s = slices.Replace(*s, first, next, r)
}

// missing calls f for each part of r that is not in s, in order.
func (s spans) missing(r span, f func(span)) {
	for _, have := range s[s.reaching(r.from):] {
		if have.from > r.to {
			break
		}
		if have.from > r.from {
			f(span{r.from, have.from - 1})
		}
		if have.to >= r.to {
			return
		}
		r.from = have.to + 1
	}
	if r.from <= r.to {
		f(r)
	}
}
