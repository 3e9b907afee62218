package filetree_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"banger/internal/filetree"
)

// tree makes a tree that has one of everything.
func tree(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "tree")
	must(t, os.MkdirAll(filepath.Join(dir, "sub", "deep"), 0o755))
	must(t, os.Mkdir(filepath.Join(dir, "empty"), 0o755))
	write(t, filepath.Join(dir, "plain"), "plain text", 0o644)
	write(t, filepath.Join(dir, "nothing"), "", 0o600)
	write(t, filepath.Join(dir, "program"), "#!/bin/sh\n", 0o755)
	write(t, filepath.Join(dir, "setuid"), "x", 0o755)
	must(t, unix.Chmod(filepath.Join(dir, "setuid"), 0o4755))
	write(t, filepath.Join(dir, "sub", "big"), strings.Repeat("banger \x00\xff", 100_000), 0o640)
	write(t, filepath.Join(dir, "sub", "deep", "two words \n \xff"), "odd name", 0o444)
	write(t, filepath.Join(dir, "sub", strings.Repeat("long", 60)), "long name", 0o644)
	must(t, os.Symlink("plain", filepath.Join(dir, "link")))
	must(t, os.Symlink("/nowhere/at/all", filepath.Join(dir, "dangling")))
	must(t, os.Symlink(".", filepath.Join(dir, "sub", "loop")))
	must(t, os.Link(filepath.Join(dir, "plain"), filepath.Join(dir, "sub", "hard")))
	sparse(t, filepath.Join(dir, "sparse"))
	must(t, os.Chmod(filepath.Join(dir, "sub", "deep"), 0o555))
	t.Cleanup(func() { os.Chmod(filepath.Join(dir, "sub", "deep"), 0o755) })
	old := time.Unix(1_000_000_000, 123_456_789)
	for _, name := range []string{"plain", "sub/big", "sparse", "empty", "sub/deep", "sub", "."} {
		must(t, os.Chtimes(filepath.Join(dir, name), old, old))
	}
	if os.Geteuid() == 0 {
		must(t, os.Lchown(filepath.Join(dir, "link"), 1234, 2345))
		must(t, os.Chown(filepath.Join(dir, "sub/big"), 3_000_000, 3_000_001))
	}
	return dir
}

// sparse makes a file with holes at both ends and data in between.
func sparse(t *testing.T, path string) {
	t.Helper()
	f, err := os.Create(path)
	must(t, err)
	defer f.Close()
	for _, at := range []int64{1 << 20, 5<<20 + 77} {
		_, err = f.WriteAt([]byte("data in a hole"), at)
		must(t, err)
	}
	must(t, f.Truncate(64<<20))
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func write(t *testing.T, path, content string, mode fs.FileMode) {
	t.Helper()
	must(t, os.WriteFile(path, []byte(content), 0o600))
	must(t, os.Chmod(path, mode))
}

// list prints a tree: a line for each thing in it.
func list(t *testing.T, dir string) string {
	t.Helper()
	var b strings.Builder
	firsts := map[uint64]string{}
	must(t, filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(dir, path)
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil {
			return err
		}
		sec, nsec := st.Mtim.Unix()
		fmt.Fprintf(&b, "%q %o %d:%d", rel, st.Mode, st.Uid, st.Gid)
		if old := sec == 1_000_000_000; old {
			fmt.Fprintf(&b, " %d.%09d", sec, nsec)
		}
		switch st.Mode & unix.S_IFMT {
		case unix.S_IFLNK:
			to, _ := os.Readlink(path)
			fmt.Fprintf(&b, " -> %s", to)
		case unix.S_IFREG:
			content, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			fmt.Fprintf(&b, " %d bytes %x", len(content), checksum(content))
			if first, ok := firsts[st.Ino]; ok {
				fmt.Fprintf(&b, " is %s", first)
			}
			firsts[st.Ino] = rel
		}
		b.WriteString("\n")
		return nil
	}))
	return b.String()
}

func checksum(b []byte) (sum uint64) {
	for _, c := range b {
		sum = sum*1_099_511_628_211 + uint64(c) + 1
	}
	return sum
}

func pack(t *testing.T, src, name string, o filetree.Options) []byte {
	t.Helper()
	var b bytes.Buffer
	must(t, filetree.Pack(&b, src, name, o))
	return b.Bytes()
}

func keep() filetree.Options { return filetree.Options{KeepOwner: os.Geteuid() == 0} }

// What is unpacked is what was packed, also through the compression.
func TestRoundTrip(t *testing.T) {
	src, dst := tree(t), filepath.Join(t.TempDir(), "copy")
	var b bytes.Buffer
	w := filetree.Compress(&b)
	var sent, got int64
	o := keep()
	o.Progress = func(n int64) { sent += n }
	must(t, filetree.Pack(w, src, ".", o))
	must(t, w.Close())
	if b.Len() > 2<<20 {
		t.Errorf("the stream has %d bytes: holes are in it", b.Len())
	}
	o.Progress = func(n int64) { got += n }
	must(t, filetree.Unpack(filetree.Decompress(&b), filetree.Target{Path: dst, Name: "tree"}, o))
	t.Cleanup(func() { os.Chmod(filepath.Join(dst, "sub/deep"), 0o755) })
	if want, is := list(t, src), list(t, dst); want != is {
		t.Errorf("packed\n%s\nunpacked\n%s", want, is)
	}
	if hard := int64(len("plain text")); sent != filetree.Size(src)-hard || got != sent {
		t.Errorf("progress: %d sent, %d received, size %d", sent, got, filetree.Size(src))
	}
	var from, to unix.Stat_t
	must(t, unix.Stat(filepath.Join(src, "sparse"), &from))
	must(t, unix.Stat(filepath.Join(dst, "sparse"), &to))
	if from.Blocks*512 < from.Size && to.Blocks*512 > 1<<20 {
		t.Errorf("the copy of a sparse file has %d blocks, the file %d", to.Blocks, from.Blocks)
	}
}

// Where things come to lie, as with cp(1) and scp(1).
func TestPlaces(t *testing.T) {
	for _, c := range []struct{ name, src, into, exists, want string }{
		{"a file into a directory", "dir/f", "to", "to/", "to to/f"},
		{"a file under a new name", "dir/f", "to/g", "to/", "to to/g"},
		{"a file over another", "dir/f", "to/g", "to/g", "to to/g"},
		{"a file into a directory that is not there", "dir/f", "to/no/", "to/", "no such directory"},
		{"a file below what is not there", "dir/f", "to/no/f", "to/", "no such file"},
		{"a file over a directory", "dir/f", "to", "to/f/", "is a directory"},
		{"a directory into a directory", "dir", "to", "to/", "to to/dir to/dir/f"},
		{"a directory under a new name", "dir", "to/new", "to/", "to to/new to/new/f"},
		{"a directory, with a slash", "dir", "to/new/", "to/", "to to/new to/new/f"},
		{"a directory's content", "dir/.", "to", "to/", "to to/f"},
		{"a directory's content, to a new one", "dir/.", "to/new", "to/", "to to/new to/new/f"},
		{"a directory over a file", "dir", "to", "to", "not a directory"},
		{"a directory into one that has it", "dir", "to", "to/dir/", "to to/dir to/dir/f"},
		{"a directory below what is not there", "dir", "to/no/new", "to/", "no such file"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			must(t, os.Mkdir(filepath.Join(dir, "dir"), 0o755))
			write(t, filepath.Join(dir, "dir/f"), "content", 0o644)
			at := filepath.Join(dir, c.exists)
			if strings.HasSuffix(c.exists, "/") {
				must(t, os.MkdirAll(at, 0o755))
			} else {
				must(t, os.MkdirAll(filepath.Dir(at), 0o755))
				write(t, at, "what was there, and is longer", 0o644)
			}
			stream := pack(t, dir+"/"+c.src, ".", keep())
			err := filetree.Unpack(bytes.NewReader(stream), filetree.Target{Path: dir + "/" + c.into, Name: filetree.BaseName(c.src)}, keep())
			got := ""
			if err != nil {
				got = err.Error()
			} else {
				var found []string
				must(t, filepath.WalkDir(filepath.Join(dir, "to"), func(p string, d fs.DirEntry, err error) error {
					rel, _ := filepath.Rel(dir, p)
					if d.Type().IsRegular() {
						if b, err := os.ReadFile(p); err != nil || string(b) != "content" {
							t.Errorf("%s: %q, %v", rel, b, err)
						}
					}
					found = append(found, rel)
					return err
				}))
				got = strings.Join(found, " ")
			}
			if got != c.want && (err == nil || !strings.Contains(got, c.want)) {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

// GNU tar reads what we write, and we read what it writes, sparse files too.
func TestGNUTar(t *testing.T) {
	if _, err := exec.LookPath("tar"); err != nil {
		t.Skip("no tar here")
	}
	src := tree(t)
	out := t.TempDir()
	cmd := exec.Command("tar", "-xp", "-C", out)
	cmd.Stdin = bytes.NewReader(pack(t, src, "tree", keep()))
	if text, err := cmd.CombinedOutput(); err != nil || len(text) > 0 {
		t.Fatalf("tar x: %v\n%s", err, text)
	}
	t.Cleanup(func() { os.Chmod(filepath.Join(out, "tree/sub/deep"), 0o755) })
	if want, got := list(t, src), list(t, filepath.Join(out, "tree")); want != got {
		t.Errorf("packed\n%s\ntar made\n%s", want, got)
	}
	for _, format := range []string{"gnu", "oldgnu", "pax"} {
		stream, err := exec.Command("tar", "-c", "-S", "--format="+format, "-C", filepath.Dir(src), "tree").Output()
		must(t, err)
		out := t.TempDir()
		must(t, filetree.Unpack(bytes.NewReader(stream), filetree.Target{Path: out, Archive: true}, keep()))
		t.Cleanup(func() { os.Chmod(filepath.Join(out, "tree/sub/deep"), 0o755) })
		want, got := list(t, src), list(t, filepath.Join(out, "tree"))
		if format != "pax" { // no fractions of seconds there
			got = strings.ReplaceAll(got, "1000000000.000000000", "1000000000.123456789")
		}
		if want != got {
			t.Errorf("%s: packed\n%s\nunpacked\n%s", format, want, got)
		}
	}
}

// What is no file is left out and told; what cannot be read is a problem.
func TestProblems(t *testing.T) {
	dir := t.TempDir()
	must(t, unix.Mkfifo(filepath.Join(dir, "fifo"), 0o600))
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	must(t, err)
	defer unix.Close(fd)
	must(t, unix.Bind(fd, &unix.SockaddrUnix{Name: filepath.Join(dir, "socket")}))
	write(t, filepath.Join(dir, "good"), "good", 0o600)
	var told []string
	leftOut := 0
	o := keep()
	o.Problem = func(path string, err error) {
		told = append(told, filepath.Base(path)+": "+err.Error())
		if errors.Is(err, filetree.ErrLeftOut) {
			leftOut++
		}
	}
	stream := pack(t, dir, ".", o)
	if got := strings.Join(told, "; "); leftOut != 2 || !strings.Contains(got, "fifo: left out: it is a FIFO; socket: left out: it is a socket") {
		t.Errorf("told %q", got)
	}
	dst := filepath.Join(t.TempDir(), "copy")
	must(t, filetree.Unpack(bytes.NewReader(stream), filetree.Target{Path: dst}, keep()))
	if entries, _ := os.ReadDir(dst); len(entries) != 1 || entries[0].Name() != "good" {
		t.Errorf("the copy has %v", entries)
	}
	if err := filetree.Pack(io.Discard, filepath.Join(dir, "fifo"), ".", o); err == nil {
		t.Error("a FIFO was packed")
	}
	if err := filetree.Pack(io.Discard, filepath.Join(dir, "none"), ".", o); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("nothing was packed: %v", err)
	}
}

// The kernel's own file systems are no files of a VM.
func TestKernelFilesAreLeftOut(t *testing.T) {
	var st unix.Statfs_t
	if err := unix.Statfs("/dev/pts", &st); err != nil || st.Type != unix.DEVPTS_SUPER_MAGIC {
		t.Skip("no /dev/pts of its own here")
	}
	told := ""
	o := keep()
	o.Problem = func(path string, err error) {
		if strings.HasPrefix(path, "/dev/pts") {
			told += path + ": " + err.Error()
		}
	}
	must(t, filetree.Pack(io.Discard, "/dev", ".", o))
	if told != "/dev/pts: left out: it is a file system of the kernel's" {
		t.Errorf("told %q", told)
	}
}

// A device, a FIFO or a socket where a file is to go stays: it may be /dev/null.
func TestNoFileInADevicesPlace(t *testing.T) {
	src := filepath.Join(t.TempDir(), "src")
	must(t, os.Mkdir(src, 0o755))
	write(t, filepath.Join(src, "plain"), "plain text", 0o644)
	must(t, os.Symlink("/nowhere", filepath.Join(src, "link")))
	dir := t.TempDir()
	fifo := func(name string) string {
		p := filepath.Join(dir, name)
		must(t, unix.Mkfifo(p, 0o600))
		return p
	}
	for name, try := range map[string]func(t *testing.T) (there string, err error){
		"itself": func(t *testing.T) (string, error) {
			p := fifo("a")
			return p, filetree.Unpack(bytes.NewReader(pack(t, filepath.Join(src, "plain"), "plain", keep())), filetree.Target{Path: p, Name: "plain"}, keep())
		},
		"through a link": func(t *testing.T) (string, error) {
			p := fifo("b")
			must(t, os.Symlink(p, p+"-link"))
			return p, filetree.Unpack(bytes.NewReader(pack(t, filepath.Join(src, "plain"), "plain", keep())), filetree.Target{Path: p + "-link", Name: "plain"}, keep())
		},
		"in a tree": func(t *testing.T) (string, error) {
			return fifo("plain"), filetree.Unpack(bytes.NewReader(pack(t, src, ".", keep())), filetree.Target{Path: dir, Name: "."}, keep())
		},
		"of a link": func(t *testing.T) (string, error) {
			must(t, os.Remove(filepath.Join(src, "plain")))
			return fifo("link"), filetree.Unpack(bytes.NewReader(pack(t, src, ".", keep())), filetree.Target{Path: dir, Name: "."}, keep())
		},
	} {
		there, err := try(t)
		st, serr := os.Lstat(there)
		if err == nil || serr != nil || st.Mode().Type() != fs.ModeNamedPipe {
			t.Errorf("%s: %v; it is %v, %v", name, err, st, serr)
		}
		write(t, filepath.Join(src, "plain"), "plain text", 0o644)
		for _, ent := range []string{"a", "b", "b-link", "plain", "link"} {
			_ = os.Remove(filepath.Join(dir, ent))
		}
	}
}

func TestBaseName(t *testing.T) {
	for path, want := range map[string]string{
		"a": "a", "/a/b": "b", "/a/b/": "b", "/": ".", ".": ".", "..": ".", "a/..": ".", "a/.": ".", "": ".", "~": ".", "~/x": "x", "/a/.b": ".b",
	} {
		if got := filetree.BaseName(path); got != want {
			t.Errorf("BaseName(%q) = %q, want %q", path, got, want)
		}
	}
}
