package progress

import (
	"context"
	"errors"
	"regexp"
	"strings"
	"testing"
	"time"
)

func step(name, result string, err error, notes ...string) Step {
	return Step{name, func(_ context.Context, say func(string)) (string, error) {
		for _, n := range notes {
			say(n)
		}
		return result, err
	}}
}

func TestStepsAreNumberedAlignedAndTimed(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	err := Run(t.Context(), &out, false, []Step{step("etcd", "cached", nil), step("kube-apiserver", "built", nil, "compiling")})
	if err != nil {
		t.Fatal(err)
	}
	want := regexp.MustCompile(`^\[ 1/2\] etcd            cached \d+\.\ds
\[ 2/2\] kube-apiserver  compiling
\[ 2/2\] kube-apiserver  built \d+\.\ds
$`)
	if !want.MatchString(out.String()) {
		t.Errorf("printed:\n%s", out.String())
	}
}

func TestFailedStepIsTheLast(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	boom := errors.New("boom")
	err := Run(t.Context(), &out, false, []Step{step("etcd", "", boom), step("kubelet", "done", nil)})
	if !errors.Is(err, boom) {
		t.Errorf("error = %v, want %v", err, boom)
	}
	if !strings.Contains(out.String(), "FAILED after") || strings.Contains(out.String(), "kubelet") {
		t.Errorf("printed %q", out.String())
	}
}

func TestTerminalLineEndsClean(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	if err := Run(t.Context(), &out, true, []Step{step("etcd", "cached", nil)}); err != nil {
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
