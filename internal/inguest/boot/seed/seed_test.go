package seed_test

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"banger/internal/inguest/boot/seed"
)

// wanted is what a disk that home was put on is to have.
func wanted(t *testing.T, home string) string {
	t.Helper()
	// The one entry whose name is banger's own gives way to that.
	w := strings.ReplaceAll(tree(t, home), "\n.banger-seed", "\n.banger-seed.outer")
	return strings.ReplaceAll(w, " is .banger-seed/", " is .banger-seed.outer/")
}

func TestFill(t *testing.T) {
	needRoot(t)
	home := newHome(t)
	before := tree(t, home)
	image := newImage(t, "16M")
	disk, detach := attach(t, image)
	must(t, seed.Fill(disk, home))
	if d := differ(wanted(t, home), tree(t, disk)); d != "" {
		t.Errorf("the copy differs (-: missing, +: too much):\n%s", d)
	}
	if st, err := os.Stat(disk); err != nil || st.ModTime().Unix() != 1_000_000_000 {
		t.Errorf("the top's time: %v, %v", st.ModTime(), err)
	}
	if d := differ(before, tree(t, home)); d != "" {
		t.Errorf("the image's own has changed:\n%s", d)
	}

	// What happens from now on is the user's: nothing comes back, and a
	// directory named root stays.
	must(t, os.Remove(filepath.Join(disk, ".bashrc")))
	put(t, "mine", 0o644, disk, "root", "root", "deep")
	mine := tree(t, disk)
	for range 2 {
		detach()
		disk, detach = attach(t, image)
		must(t, seed.Fill(disk, home))
		if d := differ(mine, tree(t, disk)); d != "" {
			t.Errorf("the second time something happened:\n%s", d)
		}
	}
	must(t, os.RemoveAll(filepath.Join(disk, "root")))
	for name := range names(t, disk) {
		must(t, os.RemoveAll(filepath.Join(disk, name)))
	}
	must(t, seed.Fill(disk, home))
	if all := names(t, disk); len(all) != 0 {
		t.Errorf("everything was deleted, and came back: %v", all)
	}
}

// An image without a home directory has an empty one, which is nobody else's.
func TestFillFromNothing(t *testing.T) {
	needRoot(t)
	disk, _ := attach(t, newImage(t, "16M"))
	must(t, seed.Fill(disk, filepath.Join(t.TempDir(), "none")))
	st, err := os.Stat(disk)
	must(t, err)
	if all := names(t, disk); len(all) != 0 || st.Mode().Perm() != 0o700 {
		t.Errorf("%v, mode %v", all, st.Mode())
	}
	if err := seed.Fill(t.TempDir(), put(t, "", 0o644, t.TempDir(), "file")); !errors.Is(err, unix.ENOTDIR) {
		t.Errorf("a home that is a file: %v", err)
	}
}

// A home directory that is larger than the disk is put on it once that has grown.
func TestFillWithoutRoom(t *testing.T) {
	needRoot(t)
	home := t.TempDir()
	put(t, string(bytes.Repeat([]byte("x"), 24<<20)), 0o644, home, "large")
	image := newImage(t, "16M")
	disk, detach := attach(t, image)
	if err := seed.Fill(disk, home); !errors.Is(err, unix.ENOSPC) {
		t.Errorf("err = %v", err)
	}
	detach()
	larger := image + ".2" // a file of its own: see TestPowerCutAtEachChange
	command(t, "cp", image, larger)
	command(t, "truncate", "-s", "64M", larger)
	command(t, "e2fsck", "-fp", larger)
	command(t, "resize2fs", larger)
	disk, _ = attach(t, larger)
	must(t, seed.Fill(disk, home))
	if d := differ(tree(t, home), tree(t, disk)); d != "" {
		t.Error(d)
	}
}

// fills are a blank disk, and one with a home directory nested in it.
var fills = map[string]func(t *testing.T, disk string){
	"blank":  func(*testing.T, string) {},
	"nested": nest,
}

// nest puts a home directory on a disk as a whole, 0700 and root's, where there
// is one already.
func nest(t *testing.T, disk string) {
	put(t, "outer", 0o644, disk, ".bashrc")
	put(t, "outer alone", 0o644, disk, "old")
	put(t, "outer", 0o644, disk, "both", "same")
	put(t, "outer alone", 0o644, disk, "both", "only-outer")
	put(t, "outer", 0o644, disk, "was-dir", "x")
	put(t, "outer", 0o644, disk, "was-file")
	put(t, "older", 0o644, disk, "was-file.outer")
	put(t, "nested", 0o600, disk, "root", ".bashrc")
	put(t, "nested", 0o600, disk, "root", "both", "same")
	put(t, "nested alone", 0o600, disk, "root", "both", "only-nested")
	put(t, "nested", 0o600, disk, "root", "was-dir")
	put(t, "nested", 0o600, disk, "root", "was-file", "x")
	put(t, "nested", 0o600, disk, "root", "root", "root", "deep")
	must(t, os.Symlink("../..", filepath.Join(disk, "root", "link")), os.Symlink("old", filepath.Join(disk, "link")))
	must(t, os.Chown(filepath.Join(disk, "root", "both"), 1000, 1000), os.Chmod(filepath.Join(disk, "root", "both"), 0o750))
	must(t, unix.Setxattr(filepath.Join(disk, "root", "both"), "user.note", []byte("nested"), 0))
	must(t, os.Chmod(filepath.Join(disk, "root"), 0o700))
}

// flat is what nest is to become.
var flat = map[string]string{
	".bashrc": "nested", ".bashrc.outer": "outer", "old": "outer alone",
	"both": "a directory", "both/same": "nested", "both/same.outer": "outer", "both/only-outer": "outer alone", "both/only-nested": "nested alone",
	"was-dir": "nested", "was-dir.outer": "a directory", "was-dir.outer/x": "outer",
	"was-file": "a directory", "was-file/x": "nested", "was-file.outer": "older", "was-file.outer.2": "outer",
	"root": "a directory", "root/root": "a directory", "root/root/deep": "nested",
	"link": "L---------", "link.outer": "L---------",
}

func isFlat(t *testing.T, disk string) {
	t.Helper()
	if got := names(t, disk); !maps.Equal(got, flat) {
		for name := range got {
			if got[name] != flat[name] {
				t.Errorf("%s is %q, want %q", name, got[name], flat[name])
			}
		}
		for name := range flat {
			if _, ok := got[name]; !ok {
				t.Errorf("%s is missing", name)
			}
		}
	}
	for path, want := range map[string]string{".": "40700 0:0", "both": "40750 1000:1000", ".bashrc": "100600 0:0"} {
		var st unix.Stat_t
		must(t, unix.Lstat(filepath.Join(disk, path), &st))
		if got := fmt.Sprintf("%o %d:%d", st.Mode, st.Uid, st.Gid); got != want {
			t.Errorf("%s is %s, want %s", path, got, want)
		}
	}
	note := make([]byte, 16)
	if n, err := unix.Getxattr(filepath.Join(disk, "both"), "user.note", note); err != nil || string(note[:n]) != "nested" {
		t.Errorf("attribute %q, %v", note[:max(n, 0)], err)
	}
}

// The nested one wins, nothing is lost, and it happens once.
func TestFlatten(t *testing.T) {
	needRoot(t)
	home := newHome(t)
	disk, _ := attach(t, newImage(t, "16M"))
	nest(t, disk)
	must(t, seed.Fill(disk, home))
	isFlat(t, disk)
	must(t, seed.Fill(disk, home))
	isFlat(t, disk)
}

// A disk that somebody else has filled, and on which nothing is nested, stays as it is.
func TestFilledByOthers(t *testing.T) {
	needRoot(t)
	for name, kind := range map[string]func(t *testing.T, disk string){
		"files":          func(t *testing.T, disk string) { put(t, "x", 0o644, disk, "file") },
		"a file root":    func(t *testing.T, disk string) { put(t, "x", 0o644, disk, "root") },
		"a symlink root": func(t *testing.T, disk string) { must(t, os.Symlink("/etc", filepath.Join(disk, "root"))) },
		"what fsck found": func(t *testing.T, disk string) {
			put(t, "x", 0o644, disk, "lost+found", "#12")
			put(t, "", 0o644, disk, "f")
		},
	} {
		t.Run(name, func(t *testing.T) {
			disk, _ := attach(t, newImage(t, "16M"))
			kind(t, disk)
			before := names(t, disk)
			delete(before, "lost+found")
			must(t, seed.Fill(disk, newHome(t)))
			got := names(t, disk)
			delete(got, "lost+found")
			if !maps.Equal(before, got) {
				t.Errorf("was %v, is %v", before, got)
			}
		})
	}
}

// died is what a filler that is killed panics with.
type died struct{}

// fillUntil is killed before the nth change, from 0; false if there are fewer.
func fillUntil(t *testing.T, disk, home string, nth int) (killed bool) {
	defer func() {
		if r := recover(); r != nil && r != any(died{}) {
			panic(r)
		} else if r != nil {
			killed = true
		}
	}()
	n := 0
	must(t, seed.FillAt(disk, home, func(string) {
		if n++; n > nth {
			panic(died{})
		}
	}))
	return false
}

// A filler that is killed before any change, and the next one before any of its
// first: the third finishes what they began.
func TestKilledAtEachChange(t *testing.T) {
	needRoot(t)
	for name, prepare := range fills {
		t.Run(name, func(t *testing.T) {
			home := newHome(t)
			tries := 0
			for nth := 0; ; nth++ {
				disk, detach := attach(t, "") // nothing here depends on what reaches a disk
				prepare(t, disk)
				killed := fillUntil(t, disk, home, nth)
				fillUntil(t, disk, home, nth%7)
				must(t, seed.Fill(disk, home))
				check(t, name, home, disk, fmt.Sprintf("killed before change %d", nth))
				detach()
				if !killed || t.Failed() {
					break
				}
				tries++
			}
			if tries < 15 {
				t.Errorf("only %d changes", tries)
			}
		})
	}
}

// written are what may have reached the disk by the time that the power goes.
var written = map[string]func(t *testing.T, disk string){
	"little": func(*testing.T, string) {},
	// the journal, and not the content of files, for which no room is chosen yet
	"names": func(t *testing.T, disk string) { onDirectory(t, disk, unix.Fsync) },
	"all":   func(t *testing.T, disk string) { onDirectory(t, disk, unix.Syncfs) },
}

// The power goes before any change. What comes after the next boot is as if
// nothing had been.
func TestPowerCutAtEachChange(t *testing.T) {
	needRoot(t)
	for name, prepare := range fills {
		for what, write := range written {
			t.Run(name+", written "+what, func(t *testing.T) {
				home := newHome(t)
				image := newImage(t, "16M")
				disk, detach := attach(t, image)
				prepare(t, disk)
				onDirectory(t, disk, unix.Syncfs)
				var last []byte
				states := 0
				cut := func(change string) {
					b := still(t, image)
					if bytes.Equal(b, last) {
						return
					}
					last, states = b, states+1
					// A file of its own: a loop device that is still going has some
					// of the last one in its cache.
					image := fmt.Sprintf("%s.%d", image, states)
					must(t, os.WriteFile(image, b, 0o600))
					disk, detach := attach(t, image)
					must(t, seed.Fill(disk, home))
					check(t, name, home, disk, "cut before "+change)
					detach()
					command(t, "e2fsck", "-fn", image)
					must(t, os.Remove(image))
				}
				must(t, seed.FillAt(disk, home, func(change string) {
					write(t, disk)
					cut(strings.ReplaceAll(change, disk, ""))
				}))
				cut("the end") // where nothing is written out
				detach()
				t.Logf("%d states of the disk", states)
			})
		}
	}
}

// still is what a disk has at one moment, though its kernel may write to it at any.
func still(t *testing.T, image string) []byte {
	t.Helper()
	for before := []byte(nil); ; {
		now, err := os.ReadFile(image)
		must(t, err)
		if bytes.Equal(before, now) {
			return now
		}
		before = now
	}
}

func onDirectory(t *testing.T, dir string, do func(fd int) error) {
	t.Helper()
	d, err := os.Open(dir)
	must(t, err)
	must(t, do(int(d.Fd())), d.Close())
}

func check(t *testing.T, name, home, disk, when string) {
	t.Helper()
	if name == "nested" {
		isFlat(t, disk)
	} else if d := differ(wanted(t, home), tree(t, disk)); d != "" {
		t.Errorf("the copy differs:\n%s", d)
	}
	if t.Failed() {
		t.Fatal(when)
	}
}
