package seed_test

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"banger/internal/inguest/boot/seed"
)

// needRoot: the tests mount file systems, and make files of others.
func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root, to mount file systems")
	}
	if _, err := exec.LookPath("mke2fs"); err != nil {
		t.Skip("needs mke2fs (e2fsprogs)")
	}
}

func command(t *testing.T, name string, args ...string) {
	t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %q: %v\n%s", name, args, err, out)
	}
}

// newImage makes a file with an ext4 file system, in memory: what is written out
// in these tests would keep a busy machine's disks busy for minutes.
func newImage(t *testing.T, size string) string {
	t.Helper()
	dir, _ := attach(t, "")
	image := filepath.Join(dir, "disk")
	command(t, "mke2fs", "-q", "-t", "ext4", "-b", "4096", "-E", "root_owner=0:0", image, size)
	return image
}

// attach mounts an image, or for "" a file system in memory, until the test ends or
// detach is called.
func attach(t *testing.T, image string) (dir string, detach func()) {
	t.Helper()
	dir = t.TempDir()
	args := []string{"-o", "loop,relatime,noinit_itable", image, dir} // as the guest program does
	if image == "" {
		args = []string{"-t", "tmpfs", "seed", dir}
	}
	if out, err := exec.Command("mount", args...).CombinedOutput(); err != nil {
		t.Fatalf("mount: %v\n%s", err, out)
	}
	mounted := true
	detach = func() {
		if mounted {
			mounted = false
			flags := 0
			if image == "" { // on which loop devices may still be going
				flags = unix.MNT_DETACH
			}
			if err := unix.Unmount(dir, flags); err != nil {
				t.Errorf("unmount %s: %v", dir, err)
			}
		}
	}
	t.Cleanup(detach)
	return dir, detach
}

// must fails the test for any error.
func must(t *testing.T, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

func put(t *testing.T, text string, mode os.FileMode, path ...string) string {
	t.Helper()
	p := filepath.Join(path...)
	must(t, os.MkdirAll(filepath.Dir(p), 0o755), os.WriteFile(p, []byte(text), mode), os.Chmod(p, mode))
	return p
}

// newHome makes a home directory with all that one can have.
func newHome(t *testing.T) string {
	t.Helper()
	home, _ := attach(t, newImage(t, "16M"))
	must(t, os.Remove(filepath.Join(home, "lost+found")))
	must(t, os.Chmod(home, 0o700))
	put(t, "export PS1\n", 0o644, home, ".bashrc")
	put(t, "secret", 0o600, home, ".ssh", "id")
	must(t, os.Chmod(filepath.Join(home, ".ssh"), 0o700))
	suid := put(t, "\x7fELF", 0o755, home, "bin", "tool")
	must(t, os.Chown(suid, 1000, 1001), unix.Chmod(suid, 0o6755))
	must(t, unix.Setxattr(suid, "user.note", []byte("kept\x00too"), 0))
	must(t, unix.Setxattr(filepath.Join(home, "bin"), "trusted.own", []byte("1"), 0))
	capable := put(t, "\x7fELF", 0o755, home, "bin", "ping")
	// vfs_cap_data, revision 2: cap_net_raw, effective
	must(t, unix.Setxattr(capable, "security.capability", []byte("\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"), 0))
	must(t, os.Symlink("/nowhere/at all", filepath.Join(home, "broken")), os.Lchown(filepath.Join(home, "broken"), 7, 8))
	first := put(t, strings.Repeat("linked ", 3000), 0o640, home, "a", "first")
	must(t, os.MkdirAll(filepath.Join(home, "b"), 0o755), os.Link(first, filepath.Join(home, "b", "second")), os.Link(first, filepath.Join(home, "third")))
	sparse, err := os.Create(filepath.Join(home, "sparse"))
	must(t, err)
	_, err = sparse.WriteAt([]byte("in the middle"), 5<<20)
	must(t, err, sparse.Truncate(8<<20), sparse.Close())
	must(t, unix.Mknod(filepath.Join(home, "fifo"), unix.S_IFIFO|0o620, 0), unix.Mknod(filepath.Join(home, "null"), unix.S_IFCHR|0o600, int(unix.Mkdev(1, 3))))
	must(t, unix.Mknod(filepath.Join(home, "socket"), unix.S_IFSOCK|0o700, 0))
	put(t, "", 0o000, home, "empty")
	put(t, "not a nested home", 0o644, home, "root", "file")
	put(t, "its name is taken", 0o644, home, ".banger-seed", "file")
	must(t, os.Mkdir(filepath.Join(home, "sticky"), 0o700), unix.Chmod(filepath.Join(home, "sticky"), 0o3777))
	old := time.Unix(1_000_000_000, 123456789)
	must(t, filepath.WalkDir(home, func(p string, _ fs.DirEntry, err error) error {
		ts := []unix.Timespec{unix.NsecToTimespec(old.UnixNano()), unix.NsecToTimespec(old.UnixNano())}
		return errors.Join(err, unix.UtimesNanoAt(unix.AT_FDCWD, p, ts, unix.AT_SYMLINK_NOFOLLOW))
	}))
	return home
}

// tree prints a tree with all that is to be kept of it.
func tree(t *testing.T, top string) string {
	t.Helper()
	var all []string
	links := map[uint64]string{}
	must(t, filepath.WalkDir(top, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		var st unix.Stat_t
		if err := unix.Lstat(p, &st); err != nil {
			return err
		}
		rel, _ := filepath.Rel(top, p)
		line := fmt.Sprintf("%s mode %o owner %d:%d", rel, st.Mode, st.Uid, st.Gid)
		if rel != "." { // whose time a filler that was interrupted has changed
			line += fmt.Sprintf(" mtime %d", st.Mtim.Nano())
		}
		switch st.Mode & unix.S_IFMT {
		case unix.S_IFREG:
			text, err := os.ReadFile(p)
			if err != nil {
				return err
			}
			line += fmt.Sprintf(" size %d sum %x", st.Size, sha256.Sum256(text))
			if st.Size > 1<<20 {
				line += fmt.Sprintf(" sparse %v", st.Blocks*512 < st.Size/4)
			}
			if links[st.Ino] == "" {
				links[st.Ino] = rel
			}
			line += " is " + links[st.Ino]
		case unix.S_IFLNK:
			target, err := os.Readlink(p)
			if err != nil {
				return err
			}
			line += " to " + target
		case unix.S_IFCHR:
			line += fmt.Sprintf(" device %d", st.Rdev)
		}
		names := make([]byte, 4096)
		n, err := unix.Llistxattr(p, names)
		if err != nil {
			return err
		}
		var attrs []string
		for name := range strings.SplitSeq(string(names[:n]), "\x00") {
			if name == "" || name == seed.Marker {
				continue
			}
			v := make([]byte, 4096)
			n, err := unix.Lgetxattr(p, name, v)
			if err != nil {
				return err
			}
			attrs = append(attrs, fmt.Sprintf(" %s=%q", name, v[:n]))
		}
		slices.Sort(attrs)
		all = append(all, line+strings.Join(attrs, ""))
		return nil
	}))
	return strings.Join(all, "\n")
}

// names are the paths below top, each with the content of what is a file.
func names(t *testing.T, top string) map[string]string {
	t.Helper()
	all := map[string]string{}
	must(t, filepath.WalkDir(top, func(p string, d fs.DirEntry, err error) error {
		rel, _ := filepath.Rel(top, p)
		if err != nil || rel == "." {
			return err
		}
		text := "a directory"
		if d.Type().IsRegular() {
			b, err := os.ReadFile(p)
			if err != nil {
				return err
			}
			text = string(b)
		} else if !d.IsDir() {
			text = d.Type().String()
		}
		all[rel] = text
		return nil
	}))
	return all
}

// differ prints the lines that only one of two has.
func differ(want, got string) string {
	var out []string
	w, g := strings.Split(want, "\n"), strings.Split(got, "\n")
	for _, l := range w {
		if !slices.Contains(g, l) {
			out = append(out, "- "+l)
		}
	}
	for _, l := range g {
		if !slices.Contains(w, l) {
			out = append(out, "+ "+l)
		}
	}
	return strings.Join(out, "\n")
}
