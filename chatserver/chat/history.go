package chat

import (
	"context"
	"slices"

	"github.com/chatcluster/chatcluster/chatserver/protocol"
	"github.com/chatcluster/chatcluster/chatserver/store"
)

const (
	maxHistory = 100 // messages of one page, and entries of one read of the log
	// historyReads is how often the log is read for one page: its messages may be
	// between many reactions.
	historyReads = 8
)

// history gives a page of messages as they are now: the newest older than
// req.Before, or the oldest newer than req.Since.
func (c *Chat) history(ctx context.Context, user string, req protocol.Request) (protocol.Event, error) {
	if err := c.mayRead(ctx, user, req.Room); err != nil {
		return protocol.Event{}, err
	}
	p := page{limit: req.Limit, bytes: c.cfg.PageBytes}
	if p.limit <= 0 || p.limit > maxHistory {
		p.limit = maxHistory
	}
	var err error
	if req.Since > 0 {
		err = c.readSince(ctx, req.Room, req.Since, &p)
	} else {
		err = c.readBefore(ctx, req.Room, req.Before, &p)
		slices.Reverse(p.messages)
	}
	if err != nil {
		return protocol.Event{}, err
	}
	return protocol.Event{Type: protocol.TypeHistory, Room: req.Room, Epoch: p.epoch, Messages: p.messages, More: p.more}, nil
}

func (c *Chat) readBefore(ctx context.Context, room string, before uint64, p *page) error {
	for range historyReads {
		log, err := c.store.ReadBefore(ctx, room, before, maxHistory)
		if err != nil {
			return err
		}
		slices.Reverse(log.Entries)
		last := p.take(room, log)
		if p.full || len(log.Entries) == 0 || last <= log.First {
			return nil
		}
		before, p.more = last, true
	}
	return nil
}

func (c *Chat) readSince(ctx context.Context, room string, since uint64, p *page) error {
	for range historyReads {
		log, err := c.store.Read(ctx, room, since, maxHistory)
		if err != nil {
			return err
		}
		last := p.take(room, log)
		if p.full || len(log.Entries) == 0 || last >= log.Last {
			return nil
		}
		since, p.more = last, true
	}
	return nil
}

// page gathers messages until there are enough of them.
type page struct {
	limit int // messages
	bytes int // what is left of a client's patience; one message always fits
	epoch string

	messages []protocol.Event
	full     bool
	more     bool // there are others behind these
}

// take adds the messages among the log's entries and returns the offset of the
// last entry it looked at.
func (p *page) take(room string, log store.Log) (last uint64) {
	p.epoch, p.more = log.Epoch, false
	if p.messages == nil {
		p.messages = []protocol.Event{} // clients look for a list
	}
	for _, e := range log.Entries {
		m, ok := historyEvent(room, log.At(e.Offset).Epoch, e)
		if ok {
			p.bytes -= len(m.AppendJSON(nil))
			if len(p.messages) == p.limit || p.bytes < 0 && len(p.messages) > 0 {
				p.full, p.more = true, true
				return last
			}
			p.messages = append(p.messages, m)
		}
		last = e.Offset
	}
	return last
}
