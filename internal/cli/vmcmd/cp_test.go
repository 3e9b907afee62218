package vmcmd_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"banger"
	"banger/internal/api"
	"banger/internal/filetree"
)

// guestFiles makes a session whose VMs keep their files below the directory
// that is returned, as a guest program would.
func guestFiles(t *testing.T) (*session, string) {
	t.Helper()
	s := newSession(t, map[string]any{api.VMShow: web})
	root := t.TempDir()
	s.copy = func(_ context.Context, r api.CopyRequest, io api.ExecStreams) (api.ExecExit, error) {
		code := 0
		o := filetree.Options{Problem: func(path string, err error) {
			if !errors.Is(err, filetree.ErrLeftOut) {
				code = filetree.Failed
				fmt.Fprintf(io.Stderr, "%s: %v\n", path, err)
				return
			}
			fmt.Fprintf(io.Stderr, "note: %s: %v\n", path, err)
		}}
		path := root + "/" + string(r.Path)
		var err error
		if r.Out {
			w := filetree.Compress(io.Stdout)
			err = filetree.Pack(w, path, string(r.Name), o)
			err = errors.Join(err, w.Close())
		} else {
			err = filetree.Unpack(filetree.Decompress(io.Stdin), filetree.Target{Path: path, Name: string(r.Name), Archive: r.Archive}, o)
		}
		if err != nil {
			fmt.Fprintln(io.Stderr, err)
			code = filetree.Code(err)
		}
		return api.ExecExit{Code: code}, nil
	}
	return s, root
}

func put(t *testing.T, path, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

func holds(t *testing.T, path, content string) {
	t.Helper()
	if b, err := os.ReadFile(path); err != nil || string(b) != content {
		t.Errorf("%s: %q, %v; want %q", path, b, err, content)
	}
}

func TestCopyBothWays(t *testing.T) {
	s, root := guestFiles(t)
	dir := t.TempDir()
	put(t, dir+"/project/src/main.c", "int main;")
	put(t, root+"/srv/there", "")
	for _, args := range [][]string{
		{"vm", "cp", dir + "/project", "web:srv"},
		{"vm", "cp", dir + "/project/.", "web:srv/flat"},
		{"vm", "cp", dir + "/project/src/main.c", "web:srv/one.c"},
		{"vm", "cp", "web:srv", dir + "/back"},
		{"vm", "cp", "web:srv/one.c", dir},
		{"vm", "cp", "web:srv/project", "web:srv/twice"},
	} {
		if err := s.run(t.Context(), args...); err != nil {
			t.Errorf("%q: %v", args, err)
		}
	}
	const content = "int main;"
	for _, p := range []string{
		root + "/srv/project/src/main.c", root + "/srv/flat/src/main.c", root + "/srv/one.c",
		dir + "/back/project/src/main.c", dir + "/one.c", root + "/srv/twice/src/main.c",
	} {
		holds(t, p, content)
	}
	if s.out.Len() > 0 || s.err.Len() > 0 {
		t.Errorf("said %q and %q where nobody looks", s.out, s.err)
	}
}

func TestCopyStreams(t *testing.T) {
	s, root := guestFiles(t)
	dir := t.TempDir()
	put(t, dir+"/project/file", "text")
	archive, err := exec.Command("tar", "-c", "-C", dir, "project").Output()
	if err != nil {
		t.Skip("no tar here: ", err)
	}
	s.in.Write(archive)
	if err := s.run(t.Context(), "vm", "cp", "-", "web:."); err != nil {
		t.Fatal(err)
	}
	holds(t, root+"/project/file", "text")
	if err := s.run(t.Context(), "vm", "cp", "web:project", "-"); err != nil {
		t.Fatal(err)
	}
	tar := exec.Command("tar", "-t")
	tar.Stdin = s.out
	if names, err := tar.Output(); err != nil || string(names) != "project/\nproject/file\n" {
		t.Errorf("the stream has %q, %v", names, err)
	}
	s.in.WriteString("this is no tar stream")
	if err := s.run(t.Context(), "vm", "cp", "-", "web:."); err == nil {
		t.Error("anything is a tar stream")
	}
	s.io.InTerm, s.io.OutTerm = true, true
	for _, args := range [][]string{{"vm", "cp", "-", "web:."}, {"vm", "cp", "web:x", "-"}} {
		if err := s.run(t.Context(), args...); banger.CodeOf(err) != banger.Invalid {
			t.Errorf("%q on a terminal: %v", args, err)
		}
	}
}

// A guest that fails at once, with a stdin that never says anything.
func TestCopyDoesNotWaitForStdin(t *testing.T) {
	s, _ := guestFiles(t)
	r, w := io.Pipe()
	defer w.Close()
	s.io.In = r
	if err := s.run(t.Context(), "vm", "cp", "-", "web:no/such/directory"); banger.CodeOf(err) != banger.NotFound {
		t.Error(err)
	}
}

func TestCopyMistakes(t *testing.T) {
	s, root := guestFiles(t)
	dir := t.TempDir()
	put(t, dir+"/file", "x")
	put(t, root+"/file", "x")
	for _, c := range []struct {
		src, dst string
		code     banger.Code
		says     string
	}{
		{dir + "/file", dir + "/other", banger.Invalid, "neither"},
		{"-", "-", banger.Invalid, "neither"},
		{dir + "/file", ":x", banger.Invalid, "names no VM"},
		{"", "web:x", banger.Invalid, "empty"},
		{dir + "/none", "web:x", banger.NotFound, "no such file"},
		{dir + "/file", "web:none/x", banger.NotFound, "web: "},
		{"web:none", dir, banger.NotFound, "web: "},
		{"web:file", dir + "/none/x", banger.NotFound, "no such file"},
		{dir, "web:file", banger.Internal, "not a directory"},
	} {
		err := s.run(t.Context(), "vm", "cp", c.src, c.dst)
		if banger.CodeOf(err) != c.code || !strings.Contains(err.Error(), c.says) {
			t.Errorf("cp %s %s: %v (%s), want %s", c.src, c.dst, err, banger.CodeOf(err), c.code)
		}
	}
	if _, err := os.Stat(dir + "/none"); err == nil {
		t.Error("a copy that failed made something")
	}
}

// What is no file is a note, what cannot be read fails the copy; on a terminal
// both are harmless.
func TestCopyTellsOfSingleFiles(t *testing.T) {
	s, _ := guestFiles(t)
	s.copy = func(_ context.Context, _ api.CopyRequest, io api.ExecStreams) (api.ExecExit, error) {
		fmt.Fprint(io.Stderr, "note: /dev/\x1b[2Jsda: left out\n")
		fmt.Fprint(io.Stderr, strings.Repeat("a line of many\n", 100_000))
		return api.ExecExit{Code: 1}, nil
	}
	err := s.run(t.Context(), "vm", "cp", "web:x", t.TempDir())
	if err == nil || !strings.Contains(err.Error(), "a line of many") || len(err.Error()) > 100_000 {
		t.Errorf("%d bytes of error", len(fmt.Sprint(err)))
	}
	if got := s.err.String(); !strings.Contains(got, `web: /dev/\x1b[2Jsda: left out`) || strings.Contains(got, "\x1b[2J") {
		t.Errorf("said %q", got)
	}
}

// A guest that lies about what it sends writes nothing outside of DST.
func TestCopyFromAHostileGuest(t *testing.T) {
	s, root := guestFiles(t)
	dir := t.TempDir()
	put(t, dir+"/victim", "safe")
	put(t, root+"/a", "owned")
	var evil bytes.Buffer
	z := filetree.Compress(&evil)
	if err := filetree.Pack(z, root, "../..", filetree.Options{}); err != nil { // entries ../../a
		t.Fatal(err)
	}
	z.Close()
	s.copy = func(_ context.Context, _ api.CopyRequest, io api.ExecStreams) (api.ExecExit, error) {
		_, err := io.Stdout.Write(evil.Bytes())
		return api.ExecExit{}, err
	}
	if err := s.run(t.Context(), "vm", "cp", "web:x", dir+"/dst"); err == nil || !strings.Contains(err.Error(), "leads out of") {
		t.Errorf("%v", err)
	}
	s.copy = func(_ context.Context, _ api.CopyRequest, io api.ExecStreams) (api.ExecExit, error) {
		_, err := io.Stdout.Write(bytes.Repeat([]byte("no stream at all"), 1<<16))
		return api.ExecExit{}, err
	}
	if err := s.run(t.Context(), "vm", "cp", "web:x", dir+"/dst2"); err == nil {
		t.Error("anything is a stream")
	}
	if entries, _ := os.ReadDir(dir); len(entries) != 2 { // victim and an empty dst
		t.Errorf("there is %v", entries)
	}
	holds(t, dir+"/victim", "safe")
}

func TestCopyProgressOnATerminal(t *testing.T) {
	s, _ := guestFiles(t)
	dir := t.TempDir()
	put(t, dir+"/file", strings.Repeat("x", 1<<20))
	s.io.ErrTerm = true
	if err := s.run(t.Context(), "vm", "cp", dir+"/file", "web:file"); err != nil {
		t.Fatal(err)
	}
	if got := s.err.String(); !strings.Contains(got, "copy "+dir+"/file to web:file") {
		t.Errorf("said %q", got)
	}
}

func TestCompletionOfCopies(t *testing.T) {
	s, _ := guestFiles(t)
	s.answers[api.VMList] = []banger.VM{web, named("off", banger.StateStopped)}
	if err := s.run(t.Context(), "__complete", "vm", "cp", "w"); err != nil {
		t.Fatal(err)
	}
	if got := s.out.String(); !strings.Contains(got, "web:\n") || strings.Contains(got, "off") {
		t.Errorf("completed %q", got)
	}
}
