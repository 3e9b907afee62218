package overlay_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"banger"
	"banger/internal/host"
	"banger/internal/storage"
	"banger/internal/storage/overlay"
	"banger/internal/storage/storagetest"
)

// tools returns the real host, or skips where qemu-utils is not installed.
func tools(t *testing.T) *host.Host {
	t.Helper()
	h := host.New(os.Getenv("PATH"))
	for _, tool := range []string{"qemu-img", "qemu-io"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("needs qemu-utils: %v", err)
		}
	}
	return h
}

func TestConformance(t *testing.T) {
	storagetest.Suite{
		Strategy:  overlay.New(tools(t)),
		Halfway:   halfway,
		Read:      read,
		Write:     write,
		Size:      size,
		Allocates: 1 << 20,
	}.Run(t)
}

// halfway leaves the first page of a file, which is all that qemu-img may have
// written.
func halfway(t *testing.T, d storage.Disk) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(d.Dir, "disk.qcow2.tmp-ABC"), append([]byte("QFI\xfb"), make([]byte, 4092)...), 0o600); err != nil {
		t.Fatal(err)
	}
}

func tool(t *testing.T, name string, args ...string) []byte {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %q: %v\n%s", name, args, err, out)
	}
	return out
}

// read lets qemu-img copy one piece into a file: offset and n are rounded to
// sectors around it.
func read(t *testing.T, path string, offset int64, n int) []byte {
	t.Helper()
	first, last := offset/512, (offset+int64(n)+511)/512
	out := filepath.Join(t.TempDir(), "piece")
	tool(t, "qemu-img", "dd", "-f", "qcow2", "-O", "raw", "bs=512",
		fmt.Sprintf("skip=%d", first), fmt.Sprintf("count=%d", last), "if="+path, "of="+out)
	b, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	return b[offset-first*512:][:n]
}

// write reads the sectors around, changes them and writes them.
func write(t *testing.T, path string, offset int64, p []byte) {
	t.Helper()
	first, last := offset/512*512, (offset+int64(len(p))+511)/512*512
	b := read(t, path, first, int(last-first))
	copy(b[offset-first:], p)
	in := filepath.Join(t.TempDir(), "piece")
	if err := os.WriteFile(in, b, 0o600); err != nil {
		t.Fatal(err)
	}
	tool(t, "qemu-io", "-f", "qcow2", "-c", fmt.Sprintf("write -q -s %s %d %d", in, first, len(b)), path)
}

func size(t *testing.T, path string) int64 {
	t.Helper()
	var info struct {
		Size int64 `json:"virtual-size"`
	}
	if err := json.Unmarshal(tool(t, "qemu-img", "info", "--output=json", path), &info); err != nil {
		t.Fatal(err)
	}
	return info.Size
}

// A Create that is killed in earnest, at any moment, leaves nothing that a
// second one takes for a disk.
func TestCreateKilled(t *testing.T) {
	if dir := os.Getenv("OVERLAY_TEST_CREATE"); dir != "" {
		base, d := killed(dir)
		if err := overlay.New(tools(t)).Create(t.Context(), base, d); err != nil {
			t.Fatal(err)
		}
		return
	}
	s := overlay.New(tools(t))
	dir := t.TempDir()
	base, d := killed(dir)
	if err := os.WriteFile(base.Path, bytes.Repeat([]byte("base"), int(base.Size/4)), 0o400); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(d.Dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for i := range 16 {
		ctx, cancel := context.WithTimeout(t.Context(), time.Duration(i*2)*time.Millisecond)
		cmd := exec.CommandContext(ctx, os.Args[0], "-test.run=^TestCreateKilled$")
		cmd.Env = append(os.Environ(), "OVERLAY_TEST_CREATE="+dir)
		if err := cmd.Run(); err == nil {
			t.Logf("after %d ms it had ended by itself", i*2)
		}
		cancel()
		if err := s.Create(t.Context(), base, d); err != nil {
			t.Fatal(err)
		}
		path, err := s.Attach(t.Context(), base, d)
		if err != nil {
			t.Fatal(err)
		}
		tool(t, "qemu-img", "check", "-q", path)
		if n := size(t, path); n != d.Size {
			t.Errorf("size %d", n)
		}
		if err := s.Remove(t.Context(), d); err != nil {
			t.Fatal(err)
		}
	}
}

func killed(dir string) (storage.Base, storage.Disk) {
	return storage.Base{Path: filepath.Join(dir, "base"), Size: 1 << 20},
		storage.Disk{VM: "0badcafe", Dir: filepath.Join(dir, "vm"), Size: 1 << 30}
}

// A runner pretends to be the tool, without the tool.
type runner func(c host.Cmd) error

func (r runner) Run(_ context.Context, c host.Cmd) ([]byte, error) { return nil, r(c) }

// Everything that interprets a disk runs as its owner.
func TestRunsAsOwner(t *testing.T) {
	dir := t.TempDir()
	base, d := killed(dir)
	d.Owner = &banger.Owner{UID: 7, GID: 7}
	if err := os.WriteFile(base.Path, make([]byte, 512), 0o400); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(d.Dir, 0o700); err != nil {
		t.Fatal(err)
	}
	var did []string
	s := overlay.New(runner(func(c host.Cmd) error {
		did = append(did, c.Args[0])
		if c.Owner != d.Owner {
			t.Errorf("%q runs as %v", c.Args, c.Owner)
		}
		return errors.New("no")
	}))
	s.Create(t.Context(), base, d)
	qcow2(t, filepath.Join(d.Dir, "disk.qcow2"), "/elsewhere", d.Size)
	s.Attach(t.Context(), base, d)
	s.Grow(t.Context(), base, d, 2*d.Size)
	if want := []string{"create", "rebase", "resize"}; !slices.Equal(did, want) {
		t.Errorf("did %v, want %v", did, want)
	}
}

func TestProbe(t *testing.T) {
	missing := banger.Errorf(banger.HostUnready, "qemu-img is not installed").WithRemedy("sudo apt install qemu-utils")
	s := overlay.New(runner(func(host.Cmd) error { return missing }))
	if err := s.Probe(t.Context(), "/"); !errors.Is(err, missing) {
		t.Errorf("err = %v", err)
	}
	if err := overlay.New(tools(t)).Probe(t.Context(), "/"); err != nil {
		t.Error(err)
	}
}

// A VMM can put anything into its VM's directory in place of the disk.
func TestSwapped(t *testing.T) {
	s := overlay.New(runner(func(c host.Cmd) error { t.Errorf("ran %q", c.Args); return nil }))
	for name, swap := range map[string]func(path string) error{
		"link":      func(p string) error { return os.Symlink("/etc/passwd", p) },
		"directory": func(p string) error { return os.Mkdir(p, 0o700) },
		"text":      func(p string) error { return os.WriteFile(p, []byte("hello"), 0o600) },
	} {
		t.Run(name, func(t *testing.T) {
			base, d := killed(t.TempDir())
			if err := os.Mkdir(d.Dir, 0o700); err != nil {
				t.Fatal(err)
			}
			if err := swap(filepath.Join(d.Dir, "disk.qcow2")); err != nil {
				t.Fatal(err)
			}
			if _, err := s.Attach(t.Context(), base, d); err == nil {
				t.Error("attached")
			}
			if err := s.Grow(t.Context(), base, d, 1<<40); err == nil {
				t.Error("grown")
			}
			if err := s.Create(t.Context(), base, d); err == nil {
				t.Error("taken for a disk")
			}
		})
	}
}

// qcow2 writes a header that names backing.
func qcow2(t *testing.T, path, backing string, size int64) {
	t.Helper()
	if err := os.WriteFile(path, overlay.Header(backing, size), 0o600); err != nil {
		t.Fatal(err)
	}
}

func FuzzHeader(f *testing.F) {
	f.Add(overlay.Header("/base", 1<<30))
	f.Add([]byte("QFI\xfb"))
	f.Fuzz(func(t *testing.T, b []byte) {
		backing, size, err := overlay.ParseHeader(bytes.NewReader(b))
		if err == nil && (size < 0 || len(backing) > 1023) {
			t.Errorf("size %s, base of %d bytes", strconv.FormatInt(size, 10), len(backing))
		}
	})
}
