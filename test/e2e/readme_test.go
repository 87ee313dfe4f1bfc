package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

const repository = "../.."

// block is a fenced block of the README.
type block struct{ section, language, text string }

// readme is all the blocks of the README, and what it writes as `make target`.
func readme(t *testing.T) (blocks []block, targets []string) {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(repository, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	var section, prose string
	var fenced *block
	for line := range strings.Lines(string(data)) {
		switch {
		case fenced != nil && strings.HasPrefix(line, "```"):
			blocks = append(blocks, *fenced)
			fenced = nil
		case fenced != nil:
			fenced.text += line
		case strings.HasPrefix(line, "```"):
			fenced = &block{section: section, language: strings.TrimSpace(line[3:])}
		case strings.HasPrefix(line, "## "):
			section = strings.TrimSpace(line[3:])
		default:
			prose += line
		}
	}
	for _, m := range regexp.MustCompile("`make ([a-z-]+)`").FindAllStringSubmatch(prose, -1) {
		targets = append(targets, m[1])
	}
	return blocks, targets
}

// reader is somebody who pastes commands of the README into a shell, at the top of
// the repository.
type reader struct {
	*cluster
	t   *testing.T
	env []string
}

// newReader has what a reader has: helm and kubectl. Redis's image cannot be pulled
// here, so helm takes the local cluster's instead.
func newReader(t *testing.T, c *cluster) reader {
	t.Helper()
	tools := t.TempDir()
	top, err := filepath.Abs(repository)
	if err != nil {
		t.Fatal(err)
	}
	helm := "#!/bin/sh\n[ \"$1\" != install ] || set -- \"$@\" --set redisImage=chatcluster/redis:local\n" +
		"exec go run -modfile=" + top + "/hack/kubernetes/go.mod helm.sh/helm/v4/cmd/helm \"$@\"\n"
	if err := os.WriteFile(filepath.Join(tools, "helm"), []byte(helm), 0o755); err != nil {
		t.Fatal(err)
	}
	kubeconfig := os.Getenv(envKubeconfig)
	bin := filepath.Join(filepath.Dir(filepath.Dir(kubeconfig)), "bin") // has kubectl
	return reader{c, t, append(os.Environ(), "KUBECONFIG="+kubeconfig, "PATH="+tools+":"+os.Getenv("PATH")+":"+bin)}
}

// shell is bash with a script. What it prints last is a line that says where it failed.
func (r reader) shell(ctx context.Context, script string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "bash", "-euo", "pipefail", "-c", `trap 'echo "FAILED: $BASH_COMMAND" >&2' ERR`+"\n"+script)
	cmd.Dir, cmd.Env = repository, r.env
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // it and what it starts end together
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	return cmd
}

// does runs a script, and fails the test if it fails.
func (r reader) does(script string) string {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), 6*time.Minute)
	defer cancel()
	began := time.Now()
	out, err := r.shell(ctx, script).CombinedOutput()
	if err != nil {
		r.t.Fatalf("this does not work as the README has it: %v\n%s\nIt printed:\n%s", err, script, out)
	}
	first, _, _ := strings.Cut(strings.TrimSpace(script), "\n")
	r.t.Logf("%6s  %s ...", time.Since(began).Round(100*time.Millisecond), first)
	return string(out)
}

// TestReadmeCommandsWork: a newcomer copies, pastes, and it works. Each command is taken
// out of the README; one that this test does not know how to try fails it.
func TestReadmeCommandsWork(t *testing.T) {
	r := newReader(t, local(t))
	blocks, targets := readme(t)
	bySection := map[string]func(r reader, blocks []block){
		"Two commands":          reader.twoCommands,
		"Talk":                  reader.talks,
		"Look at it, scale it":  reader.looks,
		"On a cluster you have": reader.installs,
		"The resource":          reader.describes,
	}
	var sections []string
	for _, b := range blocks {
		if b.language != "mermaid" && !slices.Contains(sections, b.section) {
			sections = append(sections, b.section)
		}
	}
	r.makesWhatIsNamed(targets)
	r.leavesTheClusterAsItWas()
	for _, section := range sections {
		try, known := bySection[section]
		if !known {
			t.Errorf("the README's section %q has commands that nothing tries", section)
			continue
		}
		try(r, slices.DeleteFunc(slices.Clone(blocks), func(b block) bool { return b.section != section }))
	}
}

// leavesTheClusterAsItWas has the operator of hack/up.sh back in the end, and no chat.
func (r reader) leavesTheClusterAsItWas() {
	r.t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
		defer cancel()
		out, err := r.shell(ctx, `
			kubectl delete namespace chat --ignore-not-found
			helm uninstall chatcluster-operator --namespace chatcluster-system --ignore-not-found --wait
			hack/up.sh operator`).CombinedOutput()
		if err != nil {
			r.t.Errorf("the operator is not back: %v\n%s", err, out)
		}
	})
}

// makesWhatIsNamed tries what the README names in passing.
func (r reader) makesWhatIsNamed(targets []string) {
	tried := map[string]func(){
		"up":           func() {}, // twoCommands
		"test":         func() {}, // twoCommands
		"deploy":       func() {}, // installs
		"down":         func() { r.ciRuns("make down") },
		"help":         func() { r.does("make help") },
		"run":          r.runsOneServer,
		"docker-build": func() { r.does("make --dry-run docker-build") }, // there is no container engine here
	}
	slices.Sort(targets)
	for _, target := range slices.Compact(targets) {
		try, known := tried[target]
		if !known {
			r.t.Errorf("the README names make %s, which nothing tries", target)
			continue
		}
		try()
	}
}

func (r reader) ciRuns(command string) {
	r.t.Helper()
	ci, err := os.ReadFile(filepath.Join(repository, ".ci", "run"))
	if err != nil {
		r.t.Fatal(err)
	}
	if !strings.Contains(string(ci), command) {
		r.t.Errorf("the README says %s, and CI does not run it", command)
	}
}

// runsOneServer starts make run, sees it serve and print what to do next, and ends it.
func (r reader) runsOneServer() {
	ctx, cancel := context.WithTimeout(r.t.Context(), 2*time.Minute)
	defer cancel()
	cmd := r.shell(ctx, "make run")
	out, in, err := os.Pipe()
	if err != nil {
		r.t.Fatal(err)
	}
	defer func() { _ = out.Close() }()
	cmd.Stdout, cmd.Stderr = in, in
	if err := cmd.Start(); err != nil {
		r.t.Fatal(err)
	}
	_ = in.Close()
	defer func() {
		_ = cmd.Cancel()
		_ = cmd.Wait()
	}()
	var printed strings.Builder
	part := make([]byte, 4096)
	for !strings.Contains(printed.String(), "openssl s_client") || !strings.Contains(printed.String(), "serving") {
		n, err := out.Read(part)
		printed.Write(part[:n])
		if err != nil {
			r.t.Fatalf("make run ended and printed only:\n%s", &printed)
		}
	}
}

// twoCommands brings the chat up. The tests without a cluster are CI's.
func (r reader) twoCommands(blocks []block) {
	for _, b := range blocks {
		for line := range strings.Lines(b.text) {
			switch command, _, _ := strings.Cut(line, "#"); strings.TrimSpace(command) {
			case "make test":
				r.ciRuns("make test")
			default:
				r.does(command)
			}
		}
	}
}

// talks has the conversation in the terminal, which somebody else in the room hears,
// and then logs in over HTTPS in the same shell.
func (r reader) talks(blocks []block) {
	t := r.t
	var commands, lines string
	for _, b := range blocks {
		if b.language == "sh" {
			commands += b.text
		} else {
			lines += b.text
		}
	}
	acme := &chat{cluster: r.cluster, namespace: "chat", name: "acme", host: "chat.example.com", roots: r.public}
	bob := acme.sitDown(t, "bob")
	bob.types("LOGIN bob letmein")
	bob.reads("you are logged in as bob")
	bob.types("/join Lobby")
	bob.reads("you are in Lobby")

	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := r.shell(ctx, commands)
	typing, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	var printed, complained strings.Builder
	cmd.Stdout, cmd.Stderr = &printed, &complained
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var said string
	for line := range strings.Lines(lines) {
		said = strings.TrimSpace(line)
		_, err = io.WriteString(typing, line)
	}
	if err == nil {
		bob.reads("[Lobby] alice: " + said)
		_, err = io.WriteString(typing, "/quit\n") // openssl ends when the server closes
	}
	if err := errors.Join(err, cmd.Wait()); err != nil {
		t.Fatalf("the README's conversation does not work: %v\n%s\nIt printed:\n%s%s", err, commands+lines, &printed, &complained)
	}
	var answer struct{ Token string }
	text := printed.String()
	if err := json.Unmarshal([]byte(text[max(0, strings.LastIndex(text, "\n{")):]), &answer); err != nil || answer.Token == "" {
		t.Errorf("the login over HTTPS answered no token (%v):\n%s", err, text)
	}
}

// looks runs what shows and scales, and waits until the scaling has been done.
func (r reader) looks(blocks []block) {
	for _, b := range blocks {
		out := r.does(b.text)
		for _, part := range []string{"acme", "chat.example.com", "Ready", "FIELDS"} {
			if !strings.Contains(out, part) {
				r.t.Errorf("%s\nprints nothing of %q:\n%s", b.text, part, out)
			}
		}
	}
	acme := &chat{cluster: r.cluster, namespace: "chat", name: "acme"}
	eventually(r.t, 2*time.Minute, "the chat to have the pods that it was scaled to", func(ctx context.Context) error {
		return acme.serversAre(ctx, func(ready int32) bool { return ready == 3 })
	})
}

// installs is on a cluster without the operator, with images under the names that the
// chart and config/ have for them; with Helm and without.
func (r reader) installs(blocks []block) {
	r.does(`
		kubectl delete namespace chat
		helm uninstall chatcluster-operator --namespace chatcluster-system --wait
		kubectl delete namespace chatcluster-system
		make images IMAGE_TAG=$(sed -n 's/^appVersion: //p' charts/chatcluster-operator/Chart.yaml)`)
	for _, b := range blocks {
		r.does(b.text)
	}
	r.does("helm uninstall chatcluster-operator --namespace chatcluster-system --wait; kubectl delete namespace chat")
	r.does("make install deploy; kubectl -n chatcluster-system rollout status deployment --timeout 2m")
	r.does("make undeploy")
	if err := r.Get(r.t.Context(), client.ObjectKey{Name: "chatclusters.chatcluster.dev"}, &metav1.PartialObjectMetadata{TypeMeta: metav1.TypeMeta{
		APIVersion: "apiextensions.k8s.io/v1", Kind: "CustomResourceDefinition",
	}}); err != nil {
		r.t.Errorf("the operator took the CRD, and with it every chat: %v", err)
	}
	if err := r.Get(r.t.Context(), client.ObjectKey{Name: operatorNamespace}, &corev1.Namespace{}); !apierrors.IsNotFound(err) {
		r.t.Errorf("make undeploy left the operator's namespace (%v)", err)
	}
}

// describes tries whether the API server takes the resource.
func (r reader) describes(blocks []block) {
	for _, b := range blocks {
		if b.language != "yaml" {
			r.t.Errorf("nothing tries this block of the README:\n%s", b.text)
			continue
		}
		r.does("kubectl apply --server-side --dry-run=server -f - <<'END'\n" + b.text + "END\n")
	}
}
