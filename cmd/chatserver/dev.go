package main

import (
	"fmt"
	"io"

	"github.com/chatcluster/chatcluster/chatserver"
)

// printDev says how to try the server, in lines to copy.
func printDev(w io.Writer, s *chatserver.Server) {
	_, _ = fmt.Fprintf(w, `A chat server for trying things out. It forgets everything when it ends.
Accounts: alice/password123, bob/letmein, dave/123456

Chat in two terminals, LOGIN alice password123 in one and LOGIN bob letmein in the other, /help for more:
  openssl s_client -quiet -connect %s

Get a token, and chat over a WebSocket:
  curl -k https://%s/login -H 'Content-Type: application/json' -d '{"username":"alice","password":"password123"}'
  npx wscat --no-check -c 'wss://%s/ws' -H 'Authorization: Bearer TOKEN'
  {"type":"message","message":"Hello!"}

`, s.LineAddr(), s.Addr(), s.Addr())
}
