package dmsnap_test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"banger"
	"banger/internal/privileged/client"
	"banger/internal/storage"
	"banger/internal/storage/dmsnap"
	"banger/internal/storage/storagetest"
)

const tag = "beef"

func dial(ctx context.Context) (dmsnap.Root, error) { return client.Dial(ctx, os.Geteuid()) }

// root has a banger-root run for this user: the program that the environment
// names, as the CLI would start it.
func root(t *testing.T) {
	t.Helper()
	program := os.Getenv("BANGER_TEST_ROOT")
	if program == "" {
		t.Skip("SKIPPED: BANGER_TEST_ROOT names no banger-root")
	}
	argv := []string{program}
	if os.Geteuid() != 0 {
		argv = []string{"sudo", "-n", program}
	}
	if out, err := exec.CommandContext(t.Context(), argv[0], argv[1:]...).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	t.Cleanup(func() {
		c, err := client.Dial(context.Background(), os.Geteuid())
		if err == nil {
			err = errors.Join(c.Exit(context.Background()), c.Close())
		}
		if err != nil {
			t.Error(err)
		}
	})
}

// The whole way: this user's process, banger-root, the kernel.
func TestConformance(t *testing.T) {
	root(t)
	s := dmsnap.New(dmsnap.Config{Tag: tag, Dial: dial})
	if err := s.Probe(t.Context(), t.TempDir()); err != nil {
		t.Fatal(err)
	}
	storagetest.Suite{
		Strategy: s, Halfway: halfway, Allocates: 64 << 10,
		Read: storagetest.ReadFile, Write: storagetest.WriteFile, Size: storagetest.FileSize,
	}.Run(t)
}

func halfway(t *testing.T, d storage.Disk) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(d.Dir, "disk.cow.tmp-ABC"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
}

// What is attached is not removed and not grown; it waits for a VMM to let go, and
// gives up in time.
func TestAttached(t *testing.T) {
	root(t)
	s := dmsnap.New(dmsnap.Config{Tag: tag, Dial: dial})
	base, d := pieces(t)
	must(t, s.Create(t.Context(), base, d))
	dev, err := s.Attach(t.Context(), base, d)
	must(t, err)
	if err := s.Remove(t.Context(), d); banger.CodeOf(err) != banger.Busy {
		t.Errorf("remove: %v", err)
	}
	if err := s.Grow(t.Context(), base, d, 2*d.Size); banger.CodeOf(err) != banger.Busy {
		t.Errorf("grow: %v", err)
	}
	if used, total, err := s.Fill(t.Context(), d); err != nil || used > 1<<20 || total < d.Size {
		t.Errorf("fill: %d of %d, %v", used, total, err)
	}
	f, err := os.Open(dev)
	must(t, err)
	ctx, stop := context.WithCancel(t.Context())
	stop()
	if err := s.Detach(ctx, d); err == nil {
		t.Error("detached what is open")
	}
	done := make(chan error)
	go func() { done <- s.Detach(t.Context(), d) }()
	must(t, f.Close())
	must(t, <-done)
	must(t, s.Remove(t.Context(), d))
}

// Without banger-root a disk is made, grown and removed, and nothing is attached:
// the error says what is needed.
func TestWithoutRoot(t *testing.T) {
	absent := banger.Errorf(banger.NeedsRoot, "banger-root does not run").WithRemedy("sudo banger-root")
	s := dmsnap.New(dmsnap.Config{Tag: "dead", Dial: func(context.Context) (dmsnap.Root, error) { return nil, absent }})
	base, d := pieces(t)
	must(t, s.Create(t.Context(), base, d))
	must(t, s.Grow(t.Context(), base, d, 2*d.Size))
	if _, err := s.Attach(t.Context(), base, d); banger.CodeOf(err) != banger.NeedsRoot || banger.AsError(err).Remedy == "" {
		t.Errorf("attach: %v", err)
	}
	must(t, s.Detach(t.Context(), d))
	err := s.Probe(t.Context(), d.Dir) // of the kernel first
	if code := banger.CodeOf(err); code != banger.NeedsRoot && code != banger.HostUnready || banger.AsError(err).Remedy == "" {
		t.Errorf("probe: %v", err)
	}
	must(t, s.Remove(t.Context(), d))
}

// The length of the file says how large the disk is; one that was changed from
// outside says nothing.
func TestSize(t *testing.T) {
	base, d := pieces(t)
	s := dmsnap.New(dmsnap.Config{Tag: tag, Dial: dial})
	for _, n := range []int64{1 << 20, 1<<20 + 4096, 255 * 4096, 256 * 4096, 257 * 4096, 10 << 30, 1<<40 + 4096} {
		d.Size = max(n, base.Size)
		must(t, s.Create(t.Context(), base, d))
		if got, err := s.Size(d); err != nil || got != d.Size {
			t.Errorf("%d: %d %v", d.Size, got, err)
		}
		file := filepath.Join(d.Dir, "disk.cow")
		fi, err := os.Stat(file)
		must(t, err)
		must(t, os.Truncate(file, fi.Size()+512))
		if _, err := s.Size(d); banger.CodeOf(err) != banger.Internal {
			t.Errorf("%d and a sector: %v", d.Size, err)
		}
		must(t, s.Remove(t.Context(), d))
	}
	d.Size = base.Size + 1 // whole chunks
	must(t, s.Create(t.Context(), base, d))
	if got, err := s.Size(d); err != nil || got != base.Size+4096 {
		t.Errorf("%d: %d %v", d.Size, got, err)
	}
}

func pieces(t *testing.T) (storage.Base, storage.Disk) {
	t.Helper()
	dir := t.TempDir()
	base := storage.Base{Path: filepath.Join(dir, "base"), Size: 1 << 20}
	must(t, os.WriteFile(base.Path, make([]byte, base.Size), 0o400))
	return base, storage.Disk{VM: "0badcafe", Dir: dir, Size: 8 << 20}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
