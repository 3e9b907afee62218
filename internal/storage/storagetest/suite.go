// Package storagetest holds every storage.Strategy to the contract: one suite
// of conformance tests, run by each strategy's own tests on real files.
package storagetest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"os"
	"path/filepath"
	"testing"

	"banger"
	"banger/internal/storage"
)

// A Suite is a strategy and the means to look into its disks.
type Suite struct {
	Strategy storage.Strategy
	// Halfway leaves in d.Dir what a Create that was killed leaves there.
	Halfway func(t *testing.T, d storage.Disk)
	// Read and Write reach the bytes of a disk as a VM would, by what Attach
	// returned.
	Read  func(t *testing.T, path string, offset int64, n int) []byte
	Write func(t *testing.T, path string, offset int64, p []byte)
	// Size is the virtual size of a disk in bytes.
	Size func(t *testing.T, path string) int64
	// Allocates is the most that a new disk may allocate, bytes.
	Allocates int64
	// Independent: a disk needs its base no more once it is made.
	Independent bool
}

const (
	baseSize = 8 << 20
	diskSize = 32 << 20
	vm       = banger.VMID("0badcafe")
)

// Run runs all conformance tests.
func (s Suite) Run(t *testing.T) {
	for _, c := range []struct {
		name string
		test func(*testing.T, *bench)
	}{
		{"create", testCreate},
		{"create again", testCreateAgain},
		{"create after a kill", testCreateAfterKill},
		{"remove after a kill", testRemoveAfterKill},
		{"attach before create", testAttachBeforeCreate},
		{"attach after move", testAttachAfterMove},
		{"private to the VM", testPrivate},
		{"smaller than the base", testSmallerThanBase},
		{"grow", testGrow},
		{"never shrink", testNeverShrink},
		{"grow before create", testGrowBeforeCreate},
		{"remove", testRemove},
		{"missing base", testMissingBase},
		{"missing directory", testMissingDirectory},
		{"canceled", testCanceled},
		{"full directory", testFull},
		{"owner", testOwner},
	} {
		t.Run(c.name, func(t *testing.T) { c.test(t, newBench(t, s)) })
	}
}

// A bench is one test's directory with a base and a disk yet to be created.
type bench struct {
	Suite
	dir  string
	base storage.Base
	disk storage.Disk
	sum  [32]byte // of the base
}

// newBench makes its own directory: what testing's TempDir makes below itself
// cannot be entered by a disk's owner.
func newBench(t *testing.T, s Suite) *bench {
	t.Helper()
	dir, err := os.MkdirTemp("", "storagetest")
	must(t, err)
	t.Cleanup(func() { must(t, os.RemoveAll(dir)) })
	must(t, os.Chmod(dir, 0o711))
	b := &bench{Suite: s, dir: dir}
	b.base = storage.Base{Path: filepath.Join(dir, "base:1,a b.ext4"), Size: baseSize}
	content := bytes.Repeat([]byte("base"), baseSize/4)
	must(t, os.WriteFile(b.base.Path, content, 0o444))
	must(t, os.Chmod(b.base.Path, 0o444))
	b.sum = sha256.Sum256(content)
	b.disk = storage.Disk{VM: vm, Dir: filepath.Join(dir, "vm"), Size: diskSize}
	must(t, os.Mkdir(b.disk.Dir, 0o700))
	return b
}

func (b *bench) create(t *testing.T) {
	t.Helper()
	must(t, b.Strategy.Create(t.Context(), b.base, b.disk))
}

// attached attaches the disk until the end of the test.
func (b *bench) attached(t *testing.T) string {
	t.Helper()
	path, err := b.Strategy.Attach(t.Context(), b.base, b.disk)
	must(t, err)
	t.Cleanup(func() { must(t, b.Strategy.Detach(context.WithoutCancel(t.Context()), b.disk)) })
	return path
}

// want checks bytes of the disk.
func (b *bench) want(t *testing.T, path string, offset int64, p string) {
	t.Helper()
	if got := b.Read(t, path, offset, len(p)); string(got) != p {
		t.Errorf("at %d: %q, want %q", offset, got, p)
	}
}

// untouched checks that the base is what it was.
func (b *bench) untouched(t *testing.T) {
	t.Helper()
	content, err := os.ReadFile(b.base.Path)
	must(t, err)
	if sha256.Sum256(content) != b.sum {
		t.Error("the base was changed")
	}
}

// files are the names in the VM's directory.
func (b *bench) files(t *testing.T) (names []string) {
	t.Helper()
	ents, err := os.ReadDir(b.disk.Dir)
	must(t, err)
	for _, e := range ents {
		names = append(names, e.Name())
	}
	return names
}

// empty checks that nothing is left in the VM's directory.
func (b *bench) empty(t *testing.T) {
	t.Helper()
	if f := b.files(t); len(f) > 0 {
		t.Errorf("left behind: %v", f)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantCode(t *testing.T, err error, c banger.Code) {
	t.Helper()
	if banger.CodeOf(err) != c {
		t.Errorf("err = %v (%s), want %s", err, banger.CodeOf(err), c)
	}
}
