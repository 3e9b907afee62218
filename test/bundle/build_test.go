// Package bundle_test builds real runtime bundles out of Debian's packages.
package bundle_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"banger"
	"banger/internal/bundle"
	"banger/internal/host"
	"banger/internal/image"
	"banger/internal/store"
)

// reporter logs what it hears and calls seen with each line of it.
type reporter struct {
	t    *testing.T
	seen func(line string)
}

func (r reporter) Step(string)                              {}
func (r reporter) StepDone(name string, took time.Duration) { r.say(name + ": " + took.String()) }
func (r reporter) Progress(string, int64, int64)            {}
func (r reporter) Message(format string, a ...any) {
	r.say(strings.TrimSpace(fmt.Sprintf(format, a...)))
}

func (r reporter) say(line string) {
	r.t.Log(line)
	if r.seen != nil {
		r.seen(line)
	}
}

// newBuilder returns one for this machine, or skips the test.
func newBuilder(t *testing.T) *bundle.Builder {
	t.Helper()
	if os.Getenv("BANGER_TEST") == "" {
		t.Skip("builds whole bundles from Debian's packages, half a minute each: make test")
	}
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	return &bundle.Builder{
		Runner: host.New(os.Getenv("PATH")), Version: "test", UID: os.Getuid(), User: me.Username,
		SubUIDFile: "/etc/subuid", SubGIDFile: "/etc/subgid", Now: time.Now,
	}
}

func TestBuild(t *testing.T) {
	b := newBuilder(t)
	out := filepath.Join(t.TempDir(), "runtime")
	made, err := b.Build(t.Context(), out, reporter{t: t})
	if err != nil {
		t.Fatal(err)
	}
	if err := bundle.Verify(t.Context(), made, reporter{t: t}); err != nil {
		t.Error(err)
	}
	for _, a := range made.Artifacts {
		st, err := os.Lstat(filepath.Join(out, a.File))
		if err != nil || st.Mode() != 0o444 {
			t.Errorf("%s: %v, %v", a.File, st.Mode(), err)
		}
		if a.Release == "" || len(a.Provenance.Packages) == 0 {
			t.Errorf("%s: release %q, %d packages", a.File, a.Release, len(a.Provenance.Packages))
		}
	}
	only(t, filepath.Dir(out), "runtime")
	register(t, made)
}

// register takes the bundle into a catalogue, deletes it and looks whether a VM
// could still be started.
func register(t *testing.T, b banger.Bundle) {
	state := t.TempDir()
	s, err := store.Open(t.Context(), filepath.Join(state, "banger.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	c := image.New(s, nil, filepath.Join(state, "blobs"), os.Getuid() == 0, time.Now)
	if err := os.Mkdir(filepath.Join(state, "blobs"), 0o711); err != nil {
		t.Fatal(err)
	}
	img, err := c.Register(t.Context(), b, "", reporter{t: t})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(b.Dir); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Files(t.Context(), img); err != nil {
		t.Error(err)
	}
}

// A build that is cancelled leaves what was there, and nothing else: no
// directory, whoever owns it, and no mount.
func TestCancelledBuild(t *testing.T) {
	for _, at := range []string{"extracting archives...", "installing remaining packages inside the chroot..."} {
		t.Run(strings.Fields(at)[0], func(t *testing.T) {
			b := newBuilder(t)
			dir := t.TempDir()
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			_, err := b.Build(ctx, filepath.Join(dir, "runtime"), reporter{t: t, seen: func(line string) {
				if line == at {
					cancel()
				}
			}})
			if !errors.Is(err, context.Canceled) || banger.CodeOf(err) != banger.Canceled {
				t.Errorf("error %v", err)
			}
			only(t, dir)
			mounts, err := os.ReadFile("/proc/self/mounts")
			if err != nil || strings.Contains(string(mounts), dir) {
				t.Errorf("mounts left below %s: %v", dir, err)
			}
		})
	}
}

// only fails the test unless dir holds the names and nothing else.
func only(t *testing.T, dir string, names ...string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range entries {
		got = append(got, e.Name())
	}
	if strings.Join(got, " ") != strings.Join(names, " ") {
		t.Errorf("%s holds %q, want %q", dir, got, names)
	}
}
