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
	Duplicated   int `json:"duplicated"`   // a member saw a message twice, at one position or at two
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
	var name string // of the member judged
	tell := func(log *roomLog, what string, where span) {
		r.find("%s %s %s", name, what, log.at(where.from, where.to))
	}
	known := make(map[*room]*truth)
	members, rooms := l.all()
	for _, room := range rooms {
		t := &truth{sums: room.sums(), repeated: room.repeated()}
		known[room] = t
		c := Counts{Conflicts: int(room.conflicts.Load())}
		for i := range t.sums {
			c.Acknowledged += t.sums[i].total
		}
		r.Rooms[room.name] = c
	}
	for _, m := range members {
		name = m.name
		m.each(func(s *stay) {
			t := known[s.room]
			if t == nil {
				return // it began after this report did
			}
			c := r.Rooms[s.room.name]
			c.add(s.judge(t.sums, tell))
			c.Duplicated += s.repeats(t.repeated, tell)
			r.Rooms[s.room.name] = c
		})
	}
	for _, c := range r.Rooms {
		r.add(c)
	}
	r.Members = len(members)
	return r
}

// truth is what is known of a room apart from what its members saw.
type truth struct {
	sums     []sums
	repeated [][]position
}

// Missing is how many sightings are due that have not been and were not declared
// lost: what Report would call lost. It is cheap enough to be polled.
func (l *Ledger) Missing() int {
	lost := 0
	known := make(map[*room][]sums)
	members, rooms := l.all()
	for _, room := range rooms {
		known[room] = room.sums()
	}
	for _, m := range members {
		m.each(func(s *stay) { lost += s.judge(known[s.room], func(*roomLog, string, span) {}).Lost })
	}
	return lost
}

func (l *Ledger) all() ([]*Member, []*room) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return slices.Clone(l.members), slices.Collect(maps.Values(l.rooms))
}

// each calls f for each stay of the member.
func (m *Member) each(f func(*stay)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, stays := range m.stays {
		for _, s := range stays {
			f(s)
		}
	}
}

// judge compares a stay with what was acknowledged, and tells what is wrong.
func (s *stay) judge(all []sums, tell func(log *roomLog, what string, where span)) Counts {
	c := Counts{Seen: s.count, Duplicated: s.duplicated, Reordered: s.reordered, Gaps: s.gaps}
	s.run.gaps(func(gap span) {
		c.Gaps++
		tell(s.part.log, "was not told of the gap", gap)
	})
	for i := range all {
		if log := all[i].log; log.number >= s.first && (!s.left || log.number <= s.part.log.number) {
			c.add(s.judgeEpoch(&all[i], tell))
		}
	}
	return c
}

func (s *stay) judgeEpoch(acked *sums, tell func(log *roomLog, what string, where span)) Counts {
	entitled := span{1, end}
	if acked.log.number == s.first {
		entitled.from = s.base + 1
	}
	if s.left {
		entitled.to = s.run.last
	}
	if entitled.from > entitled.to {
		return Counts{}
	}
	c := Counts{Due: acked.in(entitled)}
	var seen, declared spans
	for _, p := range s.parts {
		if p.log == acked.log {
			seen, declared = p.seen, p.declared
		}
	}
	if acked.log.number < s.told {
		declared = spans{{1, end}}
	}
	seen.missing(entitled, func(hole span) {
		c.Declared += acked.in(hole)
		declared.missing(hole, func(hole span) {
			if n := acked.in(hole); n > 0 {
				c.Lost += n
				tell(acked.log, "did not see", hole)
			}
		})
	})
	c.Declared -= c.Lost
	return c
}

// repeats is how many messages the member saw once more at another position,
// with no word between that what it had seen before was void.
func (s *stay) repeats(repeated [][]position, tell func(log *roomLog, what string, where span)) (n int) {
	for _, positions := range repeated {
		eras := make(map[int]bool)
		for _, at := range positions {
			for _, p := range s.parts {
				if p.log != at.log || !p.seen.has(at.offset) {
					continue
				}
				if eras[p.era] {
					n++
					tell(at.log, "saw at another position too what is at", span{at.offset, at.offset})
				}
				eras[p.era] = true
			}
		}
	}
	return n
}

// at names positions for a person.
func (l *roomLog) at(from, to uint64) string {
	where := fmt.Sprintf("%s %d", l.room.name, from)
	switch {
	case to == end:
		where += " and what follows"
	case to > from:
		where += fmt.Sprintf(" to %d", to)
	}
	return fmt.Sprintf("%s (epoch %s)", where, l.epoch)
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
