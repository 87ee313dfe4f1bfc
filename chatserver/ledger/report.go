package ledger

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
)

// Counts is a verdict. Everything from Lost on has to be 0; Declared depends on
// what the chat promised to survive.
type Counts struct {
	Acknowledged int `json:"acknowledged"` // messages that a sender was told are safe
	Due          int `json:"due"`          // sightings that members are entitled to: of each acknowledged message one a member
	Seen         int `json:"seen"`         // sightings there were, repeated ones and those of messages nobody had acknowledged included
	Declared     int `json:"declared"`     // due, not seen, and the server had said so
	Lost         int `json:"lost"`         // due, not seen, and nobody had said so
	Duplicated   int `json:"duplicated"`   // a member saw a position twice, or a message is in the log twice
	Reordered    int `json:"reordered"`    // seen after a later one
	Gaps         int `json:"gaps"`         // places where a member was given what follows without what was before, and without a word
	Conflicts    int `json:"conflicts"`    // sightings or acknowledgements of another message at a position than the first
}

// Report is what a ledger says at one moment.
type Report struct {
	Counts                     // of all rooms together
	Members  int               `json:"members"`
	Rooms    map[string]Counts `json:"rooms"`
	Findings []string          `json:"findings,omitempty"` // the first few things that were wrong, for a person
}

// Clean says that nothing was wrong. Declared does not count.
func (c Counts) Clean() bool {
	return c.Lost == 0 && c.Duplicated == 0 && c.Reordered == 0 && c.Gaps == 0 && c.Conflicts == 0
}

func (c Counts) String() string {
	text := fmt.Sprintf("%d lost, %d duplicated, %d reordered, %d undeclared gaps", c.Lost, c.Duplicated, c.Reordered, c.Gaps)
	if c.Conflicts > 0 {
		text += fmt.Sprintf(", %d conflicts", c.Conflicts)
	}
	if c.Declared > 0 {
		text += fmt.Sprintf(", %d declared lost", c.Declared)
	}
	return text
}

func (c *Counts) add(more Counts) {
	c.Acknowledged += more.Acknowledged
	c.Due += more.Due
	c.Seen += more.Seen
	c.Declared += more.Declared
	c.Lost += more.Lost
	c.Duplicated += more.Duplicated
	c.Reordered += more.Reordered
	c.Gaps += more.Gaps
	c.Conflicts += more.Conflicts
}

// maxRooms is how many rooms String tells about one by one.
const maxRooms = 10

// String is the report to paste: one line if all is well, and if not a line for
// each room with something wrong in it and the first findings.
func (r Report) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d acknowledged in %d rooms, %d members saw %d of the %d due: %s",
		r.Acknowledged, len(r.Rooms), r.Members, r.Due-r.Lost-r.Declared, r.Due, r.Counts)
	if r.Clean() && r.Declared == 0 {
		return b.String()
	}
	told := 0
	for _, name := range slices.Sorted(maps.Keys(r.Rooms)) {
		if c := r.Rooms[name]; c.Clean() && c.Declared == 0 {
			continue
		}
		if told++; told > maxRooms {
			b.WriteString("\n  and other rooms")
			break
		}
		fmt.Fprintf(&b, "\n  %s: %s", name, r.Rooms[name])
	}
	for _, f := range r.Findings {
		fmt.Fprintf(&b, "\n    %s", f)
	}
	return b.String()
}

// Err is nil if all was delivered as promised, and otherwise the report.
func (r Report) Err() error {
	if r.Clean() {
		return nil
	}
	return errors.New(r.String())
}

// Report compares what was acknowledged with what was seen up to now. Messages
// that are still on their way count as lost: wait until Missing is 0, for as
// long as the chat may take, before asking.
func (l *Ledger) Report() Report {
	r := Report{Rooms: make(map[string]Counts), Findings: l.notes.all()}
	for _, room := range l.allRooms() {
		c := Counts{Conflicts: int(room.conflicts.Load())}
		for _, log := range room.allLogs() {
			s := log.sums()
			c.Acknowledged += s.total
		}
		room.repeated(func(epoch string, offset uint64) {
			c.Duplicated++
			r.find("%s %d (epoch %s) is a message that the log has already", room.name, offset, epoch)
		})
		r.Rooms[room.name] = c
	}
	r.Members = l.judge(func(m *Member, v *view, s *sums) {
		c := r.Rooms[v.log.room.name]
		c.add(v.judge(s, func(what string, where span) { r.find("%s %s %s", m.name, what, v.at(where)) }))
		r.Rooms[v.log.room.name] = c
	})
	for _, c := range r.Rooms {
		r.add(c)
	}
	return r
}

// Missing is how many sightings are due that have not been and were not declared
// lost: what Report would call lost. It is cheap enough to be polled.
func (l *Ledger) Missing() int {
	lost := 0
	l.judge(func(_ *Member, v *view, s *sums) { lost += v.judge(s, func(string, span) {}).Lost })
	return lost
}

// judge calls f for each view of each member, and says how many members there are.
func (l *Ledger) judge(f func(*Member, *view, *sums)) (members int) {
	l.mu.RLock()
	all := slices.Clone(l.members)
	l.mu.RUnlock()
	known := make(map[*roomLog]*sums)
	for _, m := range all {
		m.mu.Lock()
		for _, views := range m.views {
			for _, v := range views {
				s := known[v.log]
				if s == nil {
					fresh := v.log.sums()
					s = &fresh
					known[v.log] = s
				}
				f(m, v, s)
			}
		}
		m.mu.Unlock()
	}
	return len(all)
}

// judge compares a view with what was acknowledged, and tells what is wrong.
func (v *view) judge(s *sums, tell func(what string, where span)) Counts {
	c := Counts{Seen: v.count, Duplicated: v.duplicated, Reordered: v.reordered}
	if v.cut {
		c.Gaps++
		tell("was taken to another epoch without a word after", span{v.last, v.last})
	}
	if v.base < v.last {
		v.undeclared(span{v.base + 1, v.last}, func(gap span) {
			c.Gaps++
			tell("was not told of the gap", gap)
		})
	}
	entitled := span{v.base + 1, end}
	if v.left {
		entitled.to = v.last
	}
	if entitled.from > entitled.to {
		return c
	}
	c.Due = s.in(entitled)
	v.seen.missing(entitled, func(hole span) { c.Declared += s.in(hole) })
	v.undeclared(entitled, func(hole span) {
		if n := s.in(hole); n > 0 {
			c.Lost += n
			tell("did not see", hole)
		}
	})
	c.Declared -= c.Lost
	return c
}

// undeclared calls f for what the member neither saw nor was told to be lost.
func (v *view) undeclared(r span, f func(span)) {
	v.seen.missing(r, func(hole span) { v.declared.missing(hole, f) })
}

// at names positions for a person.
func (v *view) at(s span) string {
	where := fmt.Sprintf("%s %d", v.log.room.name, s.from)
	switch {
	case s.to == end:
		where += " and what follows"
	case s.to > s.from:
		where += fmt.Sprintf(" to %d", s.to)
	}
	return fmt.Sprintf("%s (epoch %s)", where, v.log.epoch)
}

func (l *Ledger) allRooms() []*room {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return slices.Collect(maps.Values(l.rooms))
}

func (r *room) allLogs() []*roomLog {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Collect(maps.Values(r.logs))
}

// maxFindings is how many findings are kept: with more nobody reads them.
const maxFindings = 20

func (r *Report) find(format string, args ...any) {
	if len(r.Findings) < maxFindings {
		r.Findings = append(r.Findings, fmt.Sprintf(format, args...))
	}
}

// findings are those that are only known when they happen.
type findings struct {
	mu    sync.Mutex
	texts []string
}

// add leaves room for what only the report finds.
func (f *findings) add(text func() string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.texts) < maxFindings/2 {
		f.texts = append(f.texts, text())
	}
}

func (f *findings) all() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.texts)
}
