package account

import (
	"context"
	"time"

	"github.com/chatcluster/chatcluster/chatserver/store"
)

const guessWindow = time.Hour

// guesses counts the wrong passwords that are given for one account.
type guesses struct {
	store *store.Store
	key   string
	limit int
}

// mayGuess fails with *GuessesError if too many wrong passwords were given for
// user within the hour. Right ones are not counted, and what is online stays so.
//
// All strangers share one count, whatever addresses they come from. A network in
// which the user has a session has a count of its own: strangers who use up
// theirs do not lock somebody out at home.
func (a *Accounts) mayGuess(ctx context.Context, user string, from Origin) (guesses, error) {
	g := guesses{store: a.Store, key: "guesses:" + user, limit: a.Guesses}
	retry, err := g.left(ctx)
	if err != nil || retry == 0 {
		return g, err
	}
	home, err := a.atHome(ctx, user, from)
	if err != nil {
		return g, err
	}
	if home {
		g.key += " " + from.network()
		if retry, err = g.left(ctx); err != nil {
			return g, err
		}
	}
	if retry > 0 {
		return g, &GuessesError{RetryAfter: retry}
	}
	return g, nil
}

// left is 0 if there are guesses left, else how long until there are.
func (g guesses) left(ctx context.Context) (time.Duration, error) {
	return g.store.Exceeded(ctx, g.key, g.limit)
}

// count notes a wrong password.
func (g guesses) count(ctx context.Context) error {
	_, _, err := g.store.Allow(ctx, g.key, g.limit, guessWindow)
	return err
}

// atHome tells whether the user has a session that began in the same network.
func (a *Accounts) atHome(ctx context.Context, user string, from Origin) (bool, error) {
	network := from.network()
	if network == "" {
		return false, nil
	}
	logins, err := a.Store.Logins(ctx, user)
	if err != nil {
		return false, err
	}
	for _, l := range logins {
		if networkOf(l.Address) == network {
			return true, nil
		}
	}
	return false, nil
}
