package chatserver_test

import (
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/chatcluster/chatcluster/chatserver/client"
)

func TestTwoPeopleAtTerminalsOfTwoServers(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		alice, bob := terminal(t, w.one), terminal(t, w.two)
		say(t, alice, "LOGIN alice password123")
		expect(t, alice, "logged in as alice")
		say(t, bob, "LOGIN bob letmein")
		expect(t, bob, "logged in as bob")

		elsewhere := terminal(t, w.two)
		say(t, elsewhere, "LOGIN alice password123")
		expect(t, elsewhere, "ERROR this user is online elsewhere")

		say(t, alice, "/join IITKGP")
		expect(t, alice, "you are in IITKGP")
		say(t, bob, "/join IITKGP")
		expect(t, bob, "you are in IITKGP")
		say(t, alice, "Hello from Server 1!")
		expect(t, bob, "[IITKGP] alice: Hello from Server 1!")

		say(t, alice, "/join Lobby")
		expect(t, alice, "you are in Lobby")
		say(t, bob, "/join Research")
		expect(t, bob, "you are in Research")
		say(t, bob, "/subscribe alice")
		expect(t, bob, "you follow alice")
		say(t, alice, "Public Update.")
		expect(t, bob, "[Subbed] [Lobby] alice: Public Update.")

		say(t, bob, "/rooms")
		expect(t, bob, "Lobby (1)")
		expect(t, bob, "Research (1)")

		say(t, alice, "/logout")
		expect(t, alice, "you are logged out")
		say(t, elsewhere, "LOGIN alice password123")
		expect(t, elsewhere, "logged in as alice")
		say(t, alice, "still there?")
		expect(t, alice, "ERROR log in first")

		say(t, elsewhere, "/quit")
		expect(t, elsewhere, "goodbye")
		if _, err := elsewhere.Read(waiting(t)); !errors.Is(err, io.EOF) {
			t.Errorf("after /quit the connection gave %v, want its end", err)
		}
	})
}

func TestRegisterAtTheTerminal(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		l, user := terminal(t, w.one), unique("carol")
		say(t, l, "REGISTER "+user+" short")
		expect(t, l, "ERROR")
		say(t, l, "REGISTER "+user+" long enough to do")
		expect(t, l, "logged in as "+user)
		say(t, l, "/logout")
		expect(t, l, "logged out")
		say(t, l, "REGISTER "+user+" long enough to do")
		expect(t, l, "ERROR this username is taken")
	})
}

func TestDirectMessagesAndHistoryAtTheTerminal(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		a, b := newUser(t, w.store, "a"), newUser(t, w.store, "b")
		one, two := terminal(t, w.one), terminal(t, w.two)
		say(t, one, "LOGIN "+a+" "+password)
		expect(t, one, "logged in")
		say(t, two, "LOGIN "+b+" "+password)
		expect(t, two, "logged in")

		say(t, one, "/msg "+b+" only for you")
		expect(t, two, "[direct] "+a+": only for you")

		room := unique("room")
		say(t, one, "/join "+room)
		expect(t, one, "you are in "+room)
		say(t, one, "first")
		say(t, one, "//second")
		expect(t, one, ": /second")
		say(t, two, "/join "+room)
		expect(t, two, "you are in "+room)
		say(t, two, "/history 2")
		expect(t, two, a+": first")
		expect(t, two, a+": /second")
	})
}

func TestBadLinesGetTheirErrorsAndNobodyElseNotices(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		user, other := newUser(t, w.store, "mallory"), newUser(t, w.store, "witness")
		room := unique("room")
		bad, witness := terminal(t, w.one), terminal(t, w.one)
		say(t, witness, "LOGIN "+other+" "+password)
		say(t, witness, "/join "+room)
		expect(t, witness, "you are in")

		say(t, bad, "hello?")
		expect(t, bad, "ERROR log in first")
		say(t, bad, "LOGIN "+user)
		expect(t, bad, "ERROR usage: LOGIN")
		say(t, bad, "LOGIN "+user+" wrong password")
		expect(t, bad, "ERROR wrong username or password")
		say(t, bad, "LOGIN nobody_of_that_name "+password)
		expect(t, bad, "ERROR wrong username or password")
		say(t, bad, "LOGIN "+user+" "+password)
		expect(t, bad, "logged in as "+user)
		say(t, bad, "/frobnicate")
		expect(t, bad, "ERROR unknown command")
		say(t, bad, "/join no/such room!")
		expect(t, bad, "ERROR")
		say(t, bad, "a message to nowhere")
		expect(t, bad, "ERROR you are in no room")
		say(t, bad, "/join "+room)
		expect(t, bad, "you are in")
		say(t, bad, "not UTF-8: \xff\xfe")
		expect(t, bad, "ERROR the line is not valid UTF-8")
		say(t, bad, strings.Repeat("x", 100_000))
		expect(t, bad, "ERROR the line is too long")
		say(t, bad, strings.Repeat("y", 4097))
		expect(t, bad, "ERROR the message has 4097 bytes, the limit is 4096")

		// After all of it the connection is as good as new, and the room too.
		say(t, bad, "\x1b[31mred\x1b[0m and \x07bell")
		if got := expect(t, witness, "red"); strings.ContainsAny(got, "\x1b\x07") {
			t.Errorf("control characters reached another terminal: %q", got)
		}
		say(t, witness, "all well")
		expect(t, bad, other+": all well")
	})
}

func TestGuessingPasswordsEndsTheConnection(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		l, user := terminal(t, w.one), newUser(t, w.store, "target")
		for range 5 {
			say(t, l, "LOGIN "+user+" guess1234")
			expect(t, l, "ERROR wrong username or password")
		}
		expect(t, l, "too many wrong passwords")
		if _, err := l.Read(waiting(t)); !errors.Is(err, io.EOF) {
			t.Errorf("got %v, want the end", err)
		}
	})
}

func TestPlaintextToTLSPortsIsRefusedInWords(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		for name, c := range map[string]struct{ addr, say, want string }{
			"line":       {w.one.line, "LOGIN alice password123\n", "this port speaks TLS 1.3 only"},
			"line short": {w.one.line, "hi\n", "this port speaks TLS 1.3 only"},
			"https":      {w.one.https, "GET / HTTP/1.1\r\nHost: x\r\n\r\n", "HTTP request to an HTTPS server"},
		} {
			conn, err := net.Dial("tcp", c.addr)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			_ = conn.SetDeadline(time.Now().Add(patience))
			if _, err := io.WriteString(conn, c.say); err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(conn)
			if err != nil || !strings.Contains(string(got), c.want) {
				t.Errorf("%s: got %q, %v; want %q and the end", name, got, err, c.want)
			}
		}
	})
}

func TestLineProtocolIsTLS13Only(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		config := clientTLS()
		config.MaxVersion = 0x0303 // TLS 1.2
		if l, err := client.DialLine(waiting(t), w.one.line, config); err == nil {
			_ = l.Close()
			t.Error("a TLS 1.2 client was let in")
		}
	})
}
