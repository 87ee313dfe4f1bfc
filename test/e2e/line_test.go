package e2e

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestLineWalkthroughOnTwoPods is what people type into two terminals.
func TestLineWalkthroughOnTwoPods(t *testing.T) {
	t.Parallel()
	c := start(t, routed, demo)
	alice, bob := c.twoPodsApart(t)

	again := c.sitDown(t, "alice 2")
	again.types("LOGIN alice password123")
	again.reads("ERROR", "online")
	again.types("LOGIN alice wrong-password")
	again.reads("ERROR")

	alice.types("/join IITKGP")
	alice.reads("IITKGP")
	bob.types("/join IITKGP")
	bob.reads("you are in IITKGP")
	alice.types("Hello from Server 1!")
	bob.reads("alice", "Hello from Server 1!")

	alice.types("/join Lobby")
	alice.reads("you are in Lobby")
	bob.types("/join Research")
	bob.reads("you are in Research")
	bob.types("/subscribe alice")
	bob.reads("follow alice")
	alice.types("Public Update.")
	bob.reads("[Subbed]", "alice", "Public Update.")

	alice.types("/rooms")
	alice.reads("Research")
	alice.types("/logout")
	again.logsIn("alice", "password123")
}

// TestOpenSSLIsAClient is the way into a chat that everybody has at hand; it is
// what make up prints and the README shows.
func TestOpenSSLIsAClient(t *testing.T) {
	t.Parallel()
	openssl, err := exec.LookPath("openssl")
	if err != nil {
		t.Skip("there is no openssl here")
	}
	c := start(t, routed, demo)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, openssl, "s_client", "-quiet", "-verify_return_error",
		"-connect", c.router+":1222", "-servername", c.host,
		"-CAfile", filepath.Join(filepath.Dir(os.Getenv(envKubeconfig)), "ca.crt"))
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	fmt.Fprint(in, "LOGIN dave 123456\n/join Lobby\nhello from openssl\n")
	var said strings.Builder
	for shown := bufio.NewScanner(out); shown.Scan(); {
		fmt.Fprintln(&said, shown.Text())
		if strings.HasSuffix(shown.Text(), "dave: hello from openssl") {
			fmt.Fprintln(in, "/quit") // whoever quits at once may not see what he said last
		}
	}
	_ = in.Close()
	if err := cmd.Wait(); err != nil {
		t.Errorf("openssl: %v", err)
	}
	if !strings.Contains(said.String(), "dave: hello from openssl") {
		t.Errorf("openssl shows:\n%s", said.String())
	}
}
