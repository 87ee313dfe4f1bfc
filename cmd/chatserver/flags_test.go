package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func parse(t *testing.T, args ...string) (flags, error) {
	t.Helper()
	var f flags
	parser, err := newParser(&f)
	if err != nil {
		t.Fatal(err)
	}
	parser.Exit = func(int) { t.Fatal("the parser wanted to exit") }
	_, err = parser.Parse(args)
	return f, err
}

func write(t *testing.T, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "config.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestFlagBeatsEnvironmentBeatsFile(t *testing.T) {
	file := write(t, "listen: file:1\nline_listen: file:2\nadmin-listen: file:3\nredis: [redis://a, redis://b]\nmessages-per-10s: 7\n")
	t.Setenv("CHATSERVER_LISTEN", "env:1")
	t.Setenv("CHATSERVER_LINE_LISTEN", "env:2")
	f, err := parse(t, "--config", file, "--listen", "flag:1")
	if err != nil {
		t.Fatal(err)
	}
	if f.Listen != "flag:1" || f.LineListen != "env:2" || f.AdminListen != "file:3" {
		t.Errorf("listen %s, line %s, admin %s", f.Listen, f.LineListen, f.AdminListen)
	}
	if !slices.Equal(f.Redis, []string{"redis://a", "redis://b"}) || f.MessagesPer10s != 7 {
		t.Errorf("redis %q, messages %d", f.Redis, f.MessagesPer10s)
	}
	if f.DefaultRoom != "general" || f.DuplicateLogin != "reject" {
		t.Errorf("defaults: room %s, duplicate login %s", f.DefaultRoom, f.DuplicateLogin)
	}
}

func TestEmptyEnvironmentVariableIsAValue(t *testing.T) {
	file := write(t, "line_listen: file:2\n")
	t.Setenv("CHATSERVER_LINE_LISTEN", "")
	f, err := parse(t, "--config", file)
	if err != nil {
		t.Fatal(err)
	}
	if f.LineListen != "" {
		t.Errorf("the line listener is at %s, but the environment wants none", f.LineListen)
	}
}

func TestFileMayNameTheFlagsAsTheyAreAndHoldJSON(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{
		"flags": "drain-window: 3s\nmax-message-bytes: 512\ndemo-users: true\nredis: redis://a\nhistory-age:\n",
		"names": "drain_window: 3s\nmax_message_bytes: 512\ndemo_users: yes\nredis: [redis://a]\n",
		"JSON":  `{"drain_window": "3s", "max_message_bytes": 512, "demo_users": true, "redis": ["redis://a"]}`,
	} {
		f, err := parse(t, "--config", write(t, text))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if f.DrainWindow != 3*time.Second || f.MaxMessageBytes != 512 || !f.DemoUsers || !slices.Equal(f.Redis, []string{"redis://a"}) {
			t.Errorf("%s: got %+v", name, f)
		}
		if f.HistoryAge != 168*time.Hour {
			t.Errorf("%s: an empty line is no value, but the history's age is %s", name, f.HistoryAge)
		}
	}
}

func TestWrongLineOfTheFileIsNamed(t *testing.T) {
	t.Parallel()
	for text, want := range map[string][]string{
		"lisen: x":                         {"line 1", `"lisen" is nothing that can be set`},
		"limits: {messages: 1}":            {"line 1", `"limits" is nothing that can be set`},
		"help: true":                       {`"help" is nothing that can be set`},
		"config: other.yaml":               {`"config" is nothing that can be set`},
		"\n\ndrain_window: abc":            {"--drain-window", "line 3", `expected duration but got "abc"`},
		"drain-window: 20":                 {"--drain-window", `expected duration but got "20"`},
		"max_message_bytes: 4k":            {"--max-message-bytes", `expected a valid 64 bit int but got "4k"`},
		"history-count: 1.5":               {"--history-count", `expected a valid 64 bit int but got "1.5"`},
		"max_message_bytes: [1, 2]":        {"--max-message-bytes", "takes one plain value"},
		"listen: {port: 1}":                {"--listen", "takes one plain value"},
		"redis: {url: redis://a}":          {"--redis", "takes a list"},
		"redis: [[redis://a]]":             {"--redis", "takes a list of plain values"},
		"dev: maybe":                       {"--dev", "bool value must be true"},
		"log_level: loud":                  {"--log-level", `"loud"`},
		"registration: sometimes":          {"--registration", `must be one of open,closed but got "sometimes"`},
		"listen: a:1\nlisten: b:1":         {`"listen" already defined`},
		"log_level: info\nlog-level: warn": {"sets log-level twice"},
		"listen: [":                        {"line 1"},
	} {
		file := write(t, text)
		_, err := parse(t, "--config", file)
		for _, part := range append(want, file) {
			if err == nil || !strings.Contains(err.Error(), part) {
				t.Errorf("%q: got %v, want %s", text, err, part)
			}
		}
	}
}

func TestWrongEnvironmentVariableIsNamed(t *testing.T) {
	t.Setenv("CHATSERVER_DRAIN_WINDOW", "soon")
	if _, err := parse(t); err == nil || !strings.Contains(err.Error(), "CHATSERVER_DRAIN_WINDOW") {
		t.Errorf("got %v", err)
	}
}

func TestHelpNamesTheEnvironmentVariablesAndDefaults(t *testing.T) {
	t.Parallel()
	parser, err := newParser(&flags{})
	if err != nil {
		t.Fatal(err)
	}
	var help strings.Builder
	parser.Stdout, parser.Exit = &help, func(int) { panic("done") }
	func() {
		defer func() { _ = recover() }()
		_, _ = parser.Parse([]string{"--help"})
	}()
	for _, flag := range parser.Model.Flags {
		for _, env := range flag.Envs {
			if !strings.Contains(help.String(), "$"+env) {
				t.Errorf("--help does not tell of %s", env)
			}
		}
		if flag.HasDefault && !strings.Contains(help.String(), flag.Default) {
			t.Errorf("--help does not tell that --%s is %s", flag.Name, flag.Default)
		}
	}
}

func TestEveryFlagHasAnEnvironmentVariableOfItsName(t *testing.T) {
	t.Parallel()
	parser, err := newParser(&flags{})
	if err != nil {
		t.Fatal(err)
	}
	for _, flag := range parser.Model.Flags {
		if flag.Name == "help" || flag.Name == "version" {
			continue
		}
		want := "CHATSERVER_" + strings.ToUpper(strings.ReplaceAll(flag.Name, "-", "_"))
		if len(flag.Envs) == 0 || flag.Envs[0] != want { // others are what the whole field calls it
			t.Errorf("--%s has %q, want %s", flag.Name, flag.Envs, want)
		}
	}
}
