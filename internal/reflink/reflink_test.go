package reflink_test

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"banger/internal/reflink"
)

// sparse writes a file with data at both ends of a hole and one at its end.
func sparse(t *testing.T, name string) []byte {
	t.Helper()
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	want := make([]byte, 8<<20)
	copy(want, "begin")
	copy(want[4<<20:], "middle")
	for _, at := range []int64{0, 4 << 20} {
		if _, err := f.WriteAt(want[at:at+6], at); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Truncate(int64(len(want))); err != nil {
		t.Fatal(err)
	}
	return want
}

func allocated(t *testing.T, name string) int64 {
	t.Helper()
	var st syscall.Stat_t
	if err := syscall.Stat(name, &st); err != nil {
		t.Fatal(err)
	}
	return st.Blocks * 512
}

func TestCloneKeepsContentHolesAndMode(t *testing.T) {
	dir := t.TempDir()
	src, dst := filepath.Join(dir, "src"), filepath.Join(dir, "dst")
	want := sparse(t, src)
	if err := os.WriteFile(dst, []byte("old"), 0o600); err != nil {
		t.Fatal(err)
	}
	how, err := reflink.Clone(t.Context(), src, dst, 0o440)
	if err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(dst)
	if err != nil || !bytes.Equal(got, want) {
		t.Fatalf("%s: content differs: %v", how, err)
	}
	if st, _ := os.Stat(dst); st.Mode().Perm() != 0o440 {
		t.Errorf("mode %v", st.Mode())
	}
	if n := allocated(t, dst); n > 1<<20 {
		t.Errorf("%s allocated %d bytes for two blocks of data", how, n)
	}
	if how == reflink.HardLink {
		t.Error("Clone made a hard link")
	}
	only(t, dir, "dst", "src")
}

func TestLink(t *testing.T) {
	dir := t.TempDir()
	src, dst := filepath.Join(dir, "src"), filepath.Join(dir, "dst")
	sparse(t, src)
	for _, may := range []bool{true, false, true, true} {
		how, err := reflink.Link(t.Context(), src, dst, 0o400, func(fs.FileInfo) bool { return may })
		if err != nil {
			t.Fatal(err)
		}
		a, _ := os.Stat(src)
		b, _ := os.Stat(dst)
		if same := os.SameFile(a, b); same != (how == reflink.HardLink) || same && !may {
			t.Errorf("allowed %v: %s, same file %v", may, how, same)
		}
		only(t, dir, "dst", "src")
	}
}

func TestNothingIsLeftOfAFailure(t *testing.T) {
	dir := t.TempDir()
	src, dst := filepath.Join(dir, "src"), filepath.Join(dir, "dst")
	sparse(t, src)
	pipe := filepath.Join(dir, "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := reflink.Clone(t.Context(), pipe, dst, 0o400); err == nil {
		t.Error("a pipe was copied")
	}
	if _, err := reflink.Clone(t.Context(), filepath.Join(dir, "none"), dst, 0o400); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("missing source: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := reflink.Clone(ctx, src, dst, 0o400); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	only(t, dir, "pipe", "src")
}

func only(t *testing.T, dir string, want ...string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range entries {
		got = append(got, e.Name())
	}
	if len(got) != len(want) {
		t.Fatalf("directory holds %q, want %q", got, want)
	}
}
