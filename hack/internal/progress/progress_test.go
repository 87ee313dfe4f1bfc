package progress

import (
	"errors"
	"regexp"
	"strings"
	"testing"
	"time"
)

func TestStepsAreNumberedAlignedAndTimed(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	p := New(&out, false, []string{"etcd", "kube-apiserver"})

	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(p.Step("etcd", func(func(string)) (string, error) { return "cached", nil }))
	must(p.Step("kube-apiserver", func(say func(string)) (string, error) {
		say("compiling")
		return "built", nil
	}))

	want := regexp.MustCompile(`^\[ 1/2\] etcd            cached \d+\.\ds
\[ 2/2\] kube-apiserver  compiling
\[ 2/2\] kube-apiserver  built \d+\.\ds
$`)
	if !want.MatchString(out.String()) {
		t.Errorf("printed:\n%s", out.String())
	}
}

func TestFailedStepSaysSoAndKeepsTheError(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	boom := errors.New("boom")
	err := New(&out, false, []string{"etcd"}).Step("etcd", func(func(string)) (string, error) { return "", boom })
	if !errors.Is(err, boom) {
		t.Errorf("error = %v, want %v", err, boom)
	}
	if !strings.Contains(out.String(), "FAILED after") {
		t.Errorf("printed %q, want it to say FAILED", out.String())
	}
}

func TestTerminalLineEndsClean(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	err := New(&out, true, []string{"etcd"}).Step("etcd", func(func(string)) (string, error) { return "cached", nil })
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasSuffix(out.String(), "\n") || !strings.Contains(out.String(), "\r\x1b[K[ 1/1] etcd  cached") {
		t.Errorf("printed %q", out.String())
	}
}

func TestElapsed(t *testing.T) {
	t.Parallel()
	for d, want := range map[time.Duration]string{
		400 * time.Millisecond:   "0.4s",
		12 * time.Second:         "12s",
		331 * time.Second:        "5m31s",
		61 * time.Minute:         "61m00s",
		59600 * time.Millisecond: "59s",
	} {
		if got := Elapsed(d); got != want {
			t.Errorf("Elapsed(%v) = %q, want %q", d, got, want)
		}
	}
}
