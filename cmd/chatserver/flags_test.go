package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
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

func TestFlagBeatsEnvironmentBeatsFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "config.yaml")
	text := "listen: file:1\nline_listen: file:2\nadmin-listen: file:3\nredis: [redis://a, redis://b]\nmessages-per-10s: 7\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
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

func TestMisspeltLineOfTheFileIsRefused(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "config.yaml")
	if err := os.WriteFile(file, []byte("lisen: x\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := parse(t, "--config", file); err == nil || !strings.Contains(err.Error(), `"lisen"`) {
		t.Errorf("got %v", err)
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
		if !slices.Equal(flag.Envs, []string{want}) {
			t.Errorf("--%s has %q, want %s", flag.Name, flag.Envs, want)
		}
	}
}
