package chatserver

import (
	"context"
	"runtime"

	"golang.org/x/crypto/bcrypt"

	"github.com/chatcluster/chatcluster/chatserver/account"
	"github.com/chatcluster/chatcluster/chatserver/address"
	"github.com/chatcluster/chatcluster/chatserver/auth"
	chats "github.com/chatcluster/chatcluster/chatserver/chat"
	"github.com/chatcluster/chatcluster/chatserver/handshake"
	"github.com/chatcluster/chatcluster/chatserver/hub"
	"github.com/chatcluster/chatcluster/chatserver/line"
	"github.com/chatcluster/chatcluster/chatserver/relay"
	"github.com/chatcluster/chatcluster/chatserver/store"
	"github.com/chatcluster/chatcluster/chatserver/web"
)

// openStore connects to Redis, however long it takes Redis to come up.
func (s *Server) openStore(ctx, life context.Context) (*store.Store, error) {
	o := s.config.storeOptions()
	o.Registerer = s.metrics
	if s.config.Dev && len(o.URLs) == 0 {
		url, err := runDevRedis(life)
		if err != nil {
			return nil, err
		}
		o.URLs = []string{url}
	}
	var st *store.Store
	err := s.persist(ctx, "connect", func() (err error) {
		st, err = store.Open(ctx, o)
		return err
	})
	return st, err
}

// assemble builds the chat around an open store.
func (s *Server) assemble(st *store.Store) (*chat, error) {
	proxies, err := address.ParseProxies(s.config.TrustedProxies)
	if err != nil {
		return nil, err
	}
	addresses := address.NewLimits(st, address.Options{
		TrustedProxies:    proxies,
		RequestsPerHour:   s.config.RequestsPerHour,
		AuthPerMinute:     s.config.AuthPerMinute,
		APIPerMinute:      s.config.APIPerMinute,
		ConnectionsAtOnce: s.config.ConnectionsPerAddress,
	}, s.log)
	policy, _ := s.config.policy()
	var hear func(chats.Record)
	if s.notify != nil {
		hear = s.notify.Message
	}
	h := hub.New(hub.Config{
		Server:          s.config.NodeID,
		MaxMessageBytes: s.config.MaxMessageBytes,
		MessagesPer10s:  s.config.MessagesPer10s,
		Policy:          policy,
		DrainWindow:     s.config.DrainWindow,
		Notify:          hear,
		Log:             s.log,
		Registerer:      s.metrics,
		Traces:          s.tracer(),
	}, st, relay.New(st.Client(), s.config.NodeID, s.log))
	// One core less than all may be busy with those who come, as with passwords.
	gate := handshake.NewGate(runtime.GOMAXPROCS(0) - 1)
	accounts := account.New(account.Config{
		Store: st, Hub: h,
		// A password costs a core some 60 ms: one core less than all may be busy with them.
		Passwords: auth.NewPasswords(bcrypt.DefaultCost, max(1, runtime.GOMAXPROCS(0)-1)),
		Tokens:    auth.NewTokens(s.keys, s.config.ClusterID),
		Open:      s.config.RegistrationOpen,
		AccessTTL: s.config.AccessTokenTTL, PlainTTL: s.config.PlainTokenTTL, RefreshTTL: s.config.RefreshTokenTTL,
		Guesses: s.config.LoginAttemptsPerHour, Registerer: s.metrics,
	})
	w, err := web.New(web.Config{
		Accounts: accounts, Hub: h, Addresses: addresses, Handshakes: gate, Push: s.notify,
		Origins:         s.config.AllowedOrigins,
		DefaultRoom:     s.config.DefaultRoom,
		MaxMessageBytes: s.config.MaxMessageBytes,
		MessagesPer10s:  s.config.MessagesPer10s,
		PingEvery:       pingEvery,
		IdleTimeout:     3 * pingEvery,
		Log:             s.log,
		Registerer:      s.metrics,
		Traces:          s.tracer(),
		ErrorTracker:    s.config.ErrorTracker,
	})
	if err != nil {
		return nil, err
	}
	l := line.New(line.Config{
		Accounts: accounts, Hub: h, Addresses: addresses, Handshakes: gate,
		MaxMessageBytes: s.config.MaxMessageBytes,
		LoginTimeout:    lineLoginTimeout,
		IdleTimeout:     lineIdleTimeout,
		Log:             s.log,
	})
	return &chat{store: st, hub: h, web: w, line: l}, nil
}
