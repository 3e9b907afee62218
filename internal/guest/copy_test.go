package guest_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"banger/internal/filetree"
	"banger/internal/guest"
	"banger/internal/guestapi"
	"banger/internal/rawtext"
)

// The real server packs and unpacks by itself: neither side needs a tar.
func TestCopy(t *testing.T) {
	c, _ := realGuest(t)
	dir := t.TempDir()
	src := filepath.Join(dir, "src")
	if err := os.MkdirAll(filepath.Join(src, "sub"), 0o755); err != nil {
		t.Fatal(err)
	}
	content := strings.Repeat("banger \x00", 1<<19) // 4 MiB: more than the window
	if err := os.WriteFile(filepath.Join(src, "sub/file"), []byte(content), 0o640); err != nil {
		t.Fatal(err)
	}
	var stream bytes.Buffer
	w := filetree.Compress(&stream)
	if err := filetree.Pack(w, src, ".", filetree.Options{}); err != nil {
		t.Fatal(err)
	}
	w.Close()

	var words bytes.Buffer
	there := filepath.Join(dir, "there")
	exit, err := c.Copy(limited(t), guestapi.Copy{Path: rawtext.String(there), Name: "src"}, guest.Streams{Stdin: &stream, Stderr: &words})
	if err != nil || exit != (guest.Exit{}) || words.Len() > 0 {
		t.Fatalf("in: %+v, %v, %q", exit, err, &words)
	}
	if b, err := os.ReadFile(filepath.Join(there, "sub/file")); err != nil || string(b) != content {
		t.Errorf("in: %d bytes, %v", len(b), err)
	}

	var back bytes.Buffer
	exit, err = c.Copy(limited(t), guestapi.Copy{Path: rawtext.String(there), Out: true, Name: "."}, guest.Streams{Stdout: &back, Stderr: &words})
	if err != nil || exit != (guest.Exit{}) || words.Len() > 0 {
		t.Fatalf("out: %+v, %v, %q", exit, err, &words)
	}
	here := filepath.Join(dir, "here")
	if err := filetree.Unpack(filetree.Decompress(&back), filetree.Target{Path: here}, filetree.Options{}); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(filepath.Join(here, "sub/file")); err != nil || string(b) != content {
		t.Errorf("out: %d bytes, %v", len(b), err)
	}
}

func TestCopyFails(t *testing.T) {
	c, _ := realGuest(t)
	dir := t.TempDir()
	for name, tc := range map[string]struct {
		copy guestapi.Copy
		code int
		says string
	}{
		"out of nowhere":  {guestapi.Copy{Path: rawtext.String(dir + "/none"), Out: true, Name: "."}, filetree.NotFound, "no such file"},
		"a device":        {guestapi.Copy{Path: "/dev/null", Out: true, Name: "."}, filetree.Failed, "neither a file nor a directory"},
		"no stream":       {guestapi.Copy{Path: rawtext.String(dir), Name: "x"}, filetree.Failed, "unexpected EOF"},
		"into nowhere":    {guestapi.Copy{Path: rawtext.String(dir + "/none"), Name: "x", Archive: true}, filetree.NotFound, "no such file"},
		"from home, none": {guestapi.Copy{Path: "no/such/thing", Out: true, Name: "."}, filetree.NotFound, "/no/such/thing"},
		"from ~, none":    {guestapi.Copy{Path: "~/no/such/thing", Out: true, Name: "."}, filetree.NotFound, "/no/such/thing"},
	} {
		var words bytes.Buffer
		exit, err := c.Copy(limited(t), tc.copy, guest.Streams{Stderr: &words})
		if err != nil || exit.Code != tc.code || !strings.Contains(words.String(), tc.says) {
			t.Errorf("%s: %+v, %v, %q", name, exit, err, &words)
		}
	}
	// What is no file is a note and no failure.
	if err := os.Symlink("nowhere", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	mkfifo(t, filepath.Join(dir, "fifo\n2"))
	var words bytes.Buffer
	exit, err := c.Copy(limited(t), guestapi.Copy{Path: rawtext.String(dir), Out: true, Name: "."}, guest.Streams{Stderr: &words})
	if want := filetree.Note + dir + `/fifo\n2: left out: it is a FIFO` + "\n"; err != nil || exit.Code != 0 || words.String() != want {
		t.Errorf("%+v, %v, %q", exit, err, &words)
	}
}

func mkfifo(t *testing.T, path string) {
	t.Helper()
	if err := unix.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
}
