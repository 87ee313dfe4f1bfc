package auth

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"github.com/fsnotify/fsnotify"
)

const (
	minSecret = 32      // bytes, as many as the hash has
	maxSecret = 4 << 10 // a longer file is no secret
	// currentFile names the key to sign with; every other file is a key.
	currentFile = "current"
	// settle lets a writer of several files finish before they are read.
	settle = 100 * time.Millisecond
	// reread is for changes that no event told.
	reread = time.Minute
)

// Keys are the secrets that sign and verify tokens, by kid. Two or more let the signing key
// be changed while the tokens of the one before are still good. It is safe for concurrent use.
type Keys struct {
	dir string // "" = random, never changes
	set atomic.Pointer[keySet]
}

type keySet struct {
	current string
	secrets map[string][]byte // by kid
}

// LoadKeys reads a directory: each file is a key, named by its kid and holding at least 32
// bytes, taken as they are; the file `current` holds the kid to sign with.
func LoadKeys(dir string) (*Keys, error) {
	set, err := readKeys(dir)
	if err != nil {
		return nil, err
	}
	k := &Keys{dir: dir}
	k.set.Store(set)
	return k, nil
}

// RandomKeys are good for one process: its tokens end with it.
func RandomKeys() *Keys {
	k := &Keys{}
	k.set.Store(&keySet{current: "random", secrets: map[string][]byte{"random": randomSecret()}})
	return k
}

// Watch loads the keys again whenever the directory changes, until ctx ends. A directory
// that cannot be read leaves the keys as they are, and is logged.
func (k *Keys) Watch(ctx context.Context, log *slog.Logger) error {
	if k.dir == "" {
		<-ctx.Done()
		return nil
	}
	// The directory, not its files: the kubelet swaps a symbolic link in it.
	watcher, err := fsnotify.NewWatcher()
	if err != nil {
		return fmt.Errorf("watch the token keys: %w", err)
	}
	defer func() { _ = watcher.Close() }()
	if err := watcher.Add(k.dir); err != nil {
		return fmt.Errorf("watch the token keys in %s: %w", k.dir, err)
	}
	timer := time.NewTimer(0) // what changed before the watch began
	defer timer.Stop()
	for {
		select {
		case <-watcher.Events:
			timer.Reset(settle)
		case err := <-watcher.Errors:
			log.Warn("watching the token keys", "dir", k.dir, "error", err)
		case <-timer.C:
			k.reload(log)
			timer.Reset(reread)
		case <-ctx.Done():
			return nil
		}
	}
}

func (k *Keys) reload(log *slog.Logger) {
	set, err := readKeys(k.dir)
	if err != nil {
		log.Error("token keys not reloaded, the old ones stay in use", "error", err)
		return
	}
	if old := k.set.Swap(set); old.current != set.current || len(old.secrets) != len(set.secrets) {
		log.Info("token keys reloaded", "current", set.current, "keys", len(set.secrets))
	}
}

func readKeys(dir string) (*keySet, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("read the token keys: %w", err)
	}
	set := &keySet{secrets: map[string][]byte{}}
	for _, e := range entries {
		kid := e.Name()
		if strings.HasPrefix(kid, ".") { // the kubelet's ..data and its like
			continue
		}
		content, err := readSmall(filepath.Join(dir, kid))
		if err != nil {
			return nil, fmt.Errorf("read the token keys: %w", err)
		}
		switch {
		case kid == currentFile:
			set.current = strings.TrimSpace(string(content))
		case len(content) < minSecret:
			return nil, fmt.Errorf("token key %s in %s has %d bytes: give it at least %d random ones", kid, dir, len(content), minSecret)
		default:
			set.secrets[kid] = content
		}
	}
	if set.secrets[set.current] == nil {
		return nil, fmt.Errorf("token keys in %s: the file %q names the key %q, which is not there", dir, currentFile, set.current)
	}
	return set, nil
}

func readSmall(file string) ([]byte, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	content, err := io.ReadAll(io.LimitReader(f, maxSecret+1))
	if err == nil && len(content) > maxSecret {
		err = errors.New(file + " is too long for a key")
	}
	return content, err
}

func randomSecret() []byte {
	secret := make([]byte, minSecret)
	_, _ = rand.Read(secret) // never fails
	return secret
}
