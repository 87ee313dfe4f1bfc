package e2e

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// TestIdleOperatorWritesNothing: while nothing changes the operator writes
// nothing, by the API server's own account. E2E_IDLE says for how long it is
// watched.
func TestIdleOperatorWritesNothing(t *testing.T) {
	c := local(t)
	watch := time.Minute
	if text := os.Getenv(envIdle); text != "" {
		var err error
		if watch, err = time.ParseDuration(text); err != nil {
			t.Fatalf("%s: %v", envIdle, err)
		}
	}
	audit := c.openAudit(t)
	start(t, routed, demo)
	busy := audit.read(t)
	if busy.total() == 0 {
		t.Fatal("the audit log has no write of the operator although it made a ChatCluster Ready: this test would see none")
	}
	t.Logf("writes until a ChatCluster was Ready: %v", busy)

	// Ready is not the end: statuses of children follow it for some seconds.
	settled := time.Now()
	for quiet := time.Now(); time.Since(quiet) < 10*time.Second; pause(t, time.Second) {
		if audit.read(t).total() > 0 {
			quiet = time.Now()
		}
		if time.Since(settled) > 2*time.Minute {
			t.Fatal("the operator has not stopped writing 2 minutes after Ready")
		}
	}
	began := time.Now()
	pause(t, watch)
	idle := audit.read(t)
	t.Logf("writes of the idle operator in %v: %d", time.Since(began).Round(time.Second), idle.total())
	if idle.total() > 0 {
		t.Errorf("the idle operator wrote: %v", idle)
	}
}

// audit reads what the API server notes about the operator.
type audit struct {
	file *os.File
	rest *bufio.Reader
	part string // a line of which the end is not written yet
	user string
}

// writes counts writes by verb and resource.
type writes map[string]int

func (w writes) total() int {
	n := 0
	for _, count := range w {
		n += count
	}
	return n
}

func (w writes) String() string {
	var list []string
	for _, key := range slices.Sorted(maps.Keys(w)) {
		list = append(list, fmt.Sprintf("%s: %d", key, w[key]))
	}
	return strings.Join(list, ", ")
}

// openAudit starts at the end of the audit log.
func (c *cluster) openAudit(t *testing.T) *audit {
	t.Helper()
	path := os.Getenv(envAuditLog)
	if path == "" {
		t.Skipf("needs the API server's audit log in %s", envAuditLog)
	}
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = file.Close() })
	if _, err := file.Seek(0, io.SeekEnd); err != nil {
		t.Fatal(err)
	}
	var operator appsv1.Deployment
	if err := c.Get(t.Context(), client.ObjectKey{Namespace: operatorNamespace, Name: operatorName}, &operator); err != nil {
		t.Fatal(err)
	}
	account := operator.Spec.Template.Spec.ServiceAccountName
	return &audit{file: file, rest: bufio.NewReader(file), user: "system:serviceaccount:" + operatorNamespace + ":" + account}
}

// read counts the writes since it was last called. A log that was rotated away
// meanwhile fails the test: what followed is in another file.
func (a *audit) read(t *testing.T) writes {
	t.Helper()
	w := make(writes)
	for {
		line, err := a.rest.ReadString('\n')
		a.part += line
		if errors.Is(err, io.EOF) {
			a.checkNotRotated(t)
			return w
		}
		if err != nil {
			t.Fatalf("read the audit log: %v", err)
		}
		if err := w.note(a.part, a.user); err != nil {
			t.Fatalf("the audit log has a line that cannot be read: %v: %.200s", err, a.part)
		}
		a.part = ""
	}
}

func (a *audit) checkNotRotated(t *testing.T) {
	t.Helper()
	now, err := os.Stat(a.file.Name())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	mine, err := a.file.Stat()
	if err != nil {
		t.Fatal(err)
	}
	if !os.SameFile(now, mine) {
		t.Fatal("the audit log was rotated while it was read: run this test again")
	}
}

func (w writes) note(line, user string) error {
	var entry struct {
		Verb      string
		User      struct{ Username string }
		ObjectRef struct{ Resource, Subresource, Name string }
	}
	if err := json.Unmarshal([]byte(line), &entry); err != nil {
		return err
	}
	write := slices.Contains([]string{"create", "update", "patch", "delete", "deletecollection"}, entry.Verb)
	// Asking who is allowed what is a create that changes nothing.
	review := strings.HasSuffix(entry.ObjectRef.Resource, "reviews")
	if entry.User.Username == user && write && !review {
		w[strings.TrimSuffix(entry.Verb+" "+entry.ObjectRef.Resource+"/"+entry.ObjectRef.Subresource, "/")]++
	}
	return nil
}
