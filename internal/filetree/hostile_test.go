package filetree_test

import (
	"archive/tar"
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"banger/internal/filetree"
)

// stream writes entries as they are, under whatever names.
func stream(t testing.TB, entries ...tar.Header) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range entries {
		if h.Mode == 0 && h.Typeflag != tar.TypeXGlobalHeader {
			h.Mode = 0o755
		}
		const content = "owned"
		if h.Typeflag == tar.TypeReg {
			h.Size = int64(len(content))
		}
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if h.Typeflag == tar.TypeReg {
			if _, err := w.Write([]byte(content)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// A place is a directory with a DST in it, and things around that nobody may touch.
func place(t testing.TB) (dir, dst string) {
	dir = t.TempDir()
	dst = filepath.Join(dir, "dst")
	for _, d := range []string{dst, filepath.Join(dir, "outside"), filepath.Join(dst, "theirs")} {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, f := range []string{"victim", "outside/victim"} {
		if err := os.WriteFile(filepath.Join(dir, f), []byte("safe"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("../outside", filepath.Join(dst, "way-out")); err != nil {
		t.Fatal(err)
	}
	return dir, dst
}

// around lists all but dst.
func around(t testing.TB, dir string) string {
	var b strings.Builder
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if p == filepath.Join(dir, "dst") {
			return fs.SkipDir
		}
		st, err := os.Lstat(p)
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(dir, p)
		b.WriteString(rel + " " + st.Mode().String())
		if d.Type().IsRegular() {
			content, err := os.ReadFile(p)
			if err != nil {
				return err
			}
			b.WriteString(" " + string(content) + " " + st.ModTime().String())
		}
		b.WriteString("\n")
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

var (
	top = tar.Header{Typeflag: tar.TypeDir, Name: "./"}
	reg = func(name string) tar.Header { return tar.Header{Typeflag: tar.TypeReg, Name: name} }
	sym = func(name, to string) tar.Header {
		return tar.Header{Typeflag: tar.TypeSymlink, Name: name, Linkname: to}
	}
	lnk = func(name, to string) tar.Header { return tar.Header{Typeflag: tar.TypeLink, Name: name, Linkname: to} }
	dir = func(name string) tar.Header { return tar.Header{Typeflag: tar.TypeDir, Name: name} }
)

// A stream from a guest writes nowhere but below DST, whatever it says.
func TestHostileStreams(t *testing.T) {
	for _, c := range []struct {
		name    string
		entries []tar.Header
	}{
		{"up", []tar.Header{top, reg("../victim")}},
		{"up, hidden", []tar.Header{top, reg("./a/../../victim")}},
		{"absolute", []tar.Header{top, reg("/dst-absolute/victim")}},
		{"absolute directory", []tar.Header{top, dir("/tmp/banger-hostile-test/x/")}},
		{"directory up", []tar.Header{top, dir("../new/")}},
		{"through a link that it made", []tar.Header{top, sym("./l", "../outside"), reg("./l/victim")}},
		{"through an absolute link", []tar.Header{top, sym("./l", "/tmp"), reg("./l/banger-hostile-test")}},
		{"through a link that was there", []tar.Header{top, reg("./way-out/victim")}},
		{"directory through a link that was there", []tar.Header{top, dir("./way-out/new/")}},
		{"mode of a directory through a link", []tar.Header{top, {Typeflag: tar.TypeDir, Name: "./way-out/", Mode: 0o777}}},
		{"link over a directory under way", []tar.Header{top, dir("./d/"), sym("./d", "../outside"), reg("./d/victim")}},
		{"two links", []tar.Header{top, sym("./a", ".."), sym("./b", "a/outside"), reg("./b/victim")}},
		{"onto a link", []tar.Header{top, sym("./f", "../victim"), reg("./f")}},
		{"hard link to the outside", []tar.Header{top, lnk("./f", "../victim"), reg("./f")}},
		{"hard link through a link", []tar.Header{top, sym("./l", ".."), lnk("./f", "./l/victim"), reg("./f")}},
		{"hard link to a link", []tar.Header{top, sym("./l", "../victim"), lnk("./f", "./l"), reg("./f")}},
		{"absolute hard link", []tar.Header{top, lnk("./f", "/etc/passwd"), reg("./f")}},
		{"link from the outside", []tar.Header{top, sym("../new", "x")}},
		{"link through a link", []tar.Header{top, sym("./way-out/new", "x")}},
		{"device", []tar.Header{top, {Typeflag: tar.TypeBlock, Name: "./sda", Devmajor: 8}}},
		{"device outside", []tar.Header{top, {Typeflag: tar.TypeChar, Name: "../mem", Devmajor: 1, Devminor: 1}}},
		{"the top as a link", []tar.Header{sym("./", "../outside"), reg("./victim")}},
		{"a file, then more", []tar.Header{reg("."), reg("../victim")}},
		{"a file with a way in its name", []tar.Header{reg("../../victim")}},
		{"the top as a file", []tar.Header{top, reg(".")}},
		{"a global header", []tar.Header{top, {Typeflag: tar.TypeXGlobalHeader, PAXRecords: map[string]string{"path": "../victim"}}, reg("./x")}},
	} {
		for _, archive := range []bool{false, true} {
			parent, dst := place(t)
			before := around(t, parent)
			o := filetree.Options{Foreign: true, KeepOwner: os.Geteuid() == 0}
			err := filetree.Unpack(bytes.NewReader(stream(t, c.entries...)), filetree.Target{Path: dst, Name: ".", Archive: archive}, o)
			if after := around(t, parent); after != before {
				t.Errorf("%s (archive: %v): %v\nbefore\n%s\nafter\n%s", c.name, archive, err, before, after)
			}
			for _, p := range []string{"/dst-absolute", "/tmp/banger-hostile-test"} {
				if _, err := os.Lstat(p); err == nil {
					t.Errorf("%s (archive: %v) made %s", c.name, archive, p)
					os.RemoveAll(p)
				}
			}
		}
	}
}

// A stream into a place that is not there yet has that place alone, not its
// parent's other things.
func TestHostileStreamIntoANewPlace(t *testing.T) {
	parent, dst := place(t)
	before := around(t, parent)
	err := filetree.Unpack(bytes.NewReader(stream(t, top, sym("./l", "../theirs"), reg("./l/x"))),
		filetree.Target{Path: filepath.Join(dst, "new"), Name: "new"}, filetree.Options{Foreign: true})
	if err == nil {
		t.Error("a way out of DST is no error")
	}
	if entries, _ := os.ReadDir(filepath.Join(dst, "theirs")); len(entries) > 0 || around(t, parent) != before {
		t.Errorf("the stream wrote beside DST: %v", entries)
	}
}

func TestForeignBits(t *testing.T) {
	for foreign, want := range map[bool]uint32{true: 0o755, false: 0o6755} {
		_, dst := place(t)
		h := reg("./program")
		h.Mode = 0o6755
		if err := filetree.Unpack(bytes.NewReader(stream(t, top, h)), filetree.Target{Path: dst, Name: "."}, filetree.Options{Foreign: foreign}); err != nil {
			t.Fatal(err)
		}
		var st unix.Stat_t
		if err := unix.Stat(filepath.Join(dst, "program"), &st); err != nil || st.Mode&0o7777 != want {
			t.Errorf("foreign %v: mode %o, want %o (%v)", foreign, st.Mode&0o7777, want, err)
		}
	}
}

// A file that the stream breaks off in is not left for a whole one.
func TestBrokenStream(t *testing.T) {
	whole := pack(t, tree(t), ".", keep())
	for _, n := range []int{0, 1, 512, 700, len(whole) / 3, len(whole) / 2} {
		dst := filepath.Join(t.TempDir(), "copy")
		if err := filetree.Unpack(bytes.NewReader(whole[:n]), filetree.Target{Path: dst}, keep()); err == nil && n%512 != 0 {
			t.Errorf("%d of %d bytes are enough", n, len(whole))
		}
		os.Chmod(filepath.Join(dst, "sub/deep"), 0o755)
	}
}

func FuzzUnpack(f *testing.F) {
	f.Add(stream(f, top, sym("./l", "../outside"), reg("./l/victim")), true)
	f.Add(stream(f, top, dir("./d/"), reg("./d/f"), lnk("./g", "./d/f")), false)
	f.Add(stream(f, reg(".")), false)
	f.Fuzz(func(t *testing.T, b []byte, archive bool) {
		for r := tar.NewReader(bytes.NewReader(b)); ; {
			h, err := r.Next()
			if err != nil {
				break
			}
			if h.Size > 1<<20 { // terabytes of holes are no mistake, but take their time
				return
			}
		}
		parent, dst := place(t)
		before := around(t, parent)
		_ = filetree.Unpack(bytes.NewReader(b), filetree.Target{Path: dst, Name: "n", Archive: archive}, filetree.Options{Foreign: true})
		if after := around(t, parent); after != before {
			t.Errorf("before\n%s\nafter\n%s", before, after)
		}
		_ = filepath.WalkDir(dst, func(p string, d fs.DirEntry, _ error) error { // so that it can be removed
			if d != nil && d.IsDir() {
				os.Chmod(p, 0o700)
			}
			return nil
		})
	})
}
