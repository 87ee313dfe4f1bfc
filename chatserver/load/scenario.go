package load

import (
	"fmt"
	"maps"
	"slices"
	"time"
)

// plan is what a scenario makes of a configuration.
type plan struct {
	title string
	seats []seat // a connection each
	turns []turn // who speaks where, over and over

	churn  float64         // seats that leave and come back, a second
	logins float64         // a second, of users without a seat
	storms []time.Duration // after the measuring began: all but the bystanders are cut
}

// seat is one connection's place.
type seat struct {
	rooms     []int
	bystander bool // stays, whatever the others do
}

// turn is one message's: the next one is for the next turn.
type turn struct{ seat, room int }

var scenarios = map[string]func(*Config) plan{
	"idle":        planIdle,
	"fanout":      planFanout,
	"rooms":       planRooms,
	"churn":       planChurn,
	"storm":       planStorm,
	"login-storm": planLoginStorm,
	"mixed":       planMixed,
}

// Scenarios are the names of what can be run.
func Scenarios() []string { return slices.Sorted(maps.Keys(scenarios)) }

// planIdle: connections that say nothing.
func planIdle(c *Config) plan {
	p := inRooms(c.Connections, c.RoomSize)
	p.title = fmt.Sprintf("%d idle connections", c.Connections)
	return p
}

// planFanout: everybody is in one room.
func planFanout(c *Config) plan {
	p := inRooms(c.Connections, c.Connections)
	p.title = fmt.Sprintf("1 room of %d members", c.Connections)
	p.turns = speakers(p.seats, c.Senders, func(int) bool { return true })
	return p
}

// planRooms: many small rooms, in which everybody speaks.
func planRooms(c *Config) plan {
	p := inRooms(c.Connections, c.RoomSize)
	p.title = fmt.Sprintf("%d rooms of %d members", roomCount(c.Connections, c.RoomSize), c.RoomSize)
	p.turns = speakers(p.seats, c.Senders, func(int) bool { return true })
	return p
}

// planChurn: connections leave and come back all the time, among others that stay and speak.
func planChurn(c *Config) plan {
	p := withBystanders(c)
	p.title = fmt.Sprintf("%g of %d connections a second leave and come back, while %d others speak", c.Churn, c.Connections, c.Bystanders)
	p.churn = c.Churn
	return p
}

// planStorm: all connections are cut at once and come back at once, while others speak.
func planStorm(c *Config) plan {
	p := withBystanders(c)
	p.title = fmt.Sprintf("%d connections are cut and come back at once, while %d others speak", c.Connections, c.Bystanders)
	for i := range c.Storms {
		// Evenly over the duration, the first one when there is something to compare with.
		p.storms = append(p.storms, c.Duration*time.Duration(i+1)/time.Duration(c.Storms+2))
	}
	return p
}

// planLoginStorm: passwords are checked while messages flow.
func planLoginStorm(c *Config) plan {
	p := planRooms(c)
	p.title = fmt.Sprintf("%g logins a second while %d members of rooms of %d speak", c.Logins, c.Connections, c.RoomSize)
	p.logins = c.Logins
	return p
}

// planMixed: a bit of everything. A fifth of the people are in a hall besides
// their small rooms; a tenth of the messages are said there.
func planMixed(c *Config) plan {
	p := withBystanders(c)
	hall := roomCount(len(p.seats), c.RoomSize)
	var inHall []turn
	for i := 0; i < len(p.seats); i += hallEvery {
		p.seats[i].rooms = append(p.seats[i].rooms, hall)
		if p.seats[i].bystander {
			inHall = append(inHall, turn{i, hall})
		}
	}
	small := p.turns
	p.turns = nil
	for i := range 10 * len(small) {
		if i%10 == 9 && len(inHall) > 0 {
			p.turns = append(p.turns, inHall[i/10%len(inHall)])
			continue
		}
		p.turns = append(p.turns, small[i%len(small)])
	}
	p.churn, p.logins = c.Churn, c.Logins
	p.title = fmt.Sprintf("%d members of rooms of %d, a hall for a fifth of them, %g of them a second leave and come back, %g logins a second",
		len(p.seats), c.RoomSize, p.churn, p.logins)
	return p
}

// hallEvery: one of so many seats is in the hall.
const hallEvery = 5

// inRooms gives n seats, in turn, a room of so many members.
func inRooms(n, size int) plan {
	p := plan{seats: make([]seat, n)}
	rooms := roomCount(n, size)
	for i := range p.seats {
		if rooms > 0 {
			p.seats[i].rooms = []int{i % rooms}
		}
	}
	return p
}

// withBystanders puts bystanders in first, so that they are in as many rooms as
// they can be, and has them speak.
func withBystanders(c *Config) plan {
	p := inRooms(c.Bystanders+c.Connections, c.RoomSize)
	for i := range c.Bystanders {
		p.seats[i].bystander = true
	}
	p.turns = speakers(p.seats, c.Senders, func(i int) bool { return p.seats[i].bystander })
	return p
}

func roomCount(n, size int) int {
	if size <= 0 {
		return 0
	}
	return (n + size - 1) / size
}

// speakers gives a turn to each of the first so many seats that may speak.
func speakers(seats []seat, most int, may func(int) bool) []turn {
	var turns []turn
	for i, s := range seats {
		if may(i) && len(s.rooms) > 0 && (most == 0 || len(turns) < most) {
			turns = append(turns, turn{i, s.rooms[0]})
		}
	}
	return turns
}
