package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// describe is what find(1) says of a tree, here or in a VM: names, modes,
// owners, sizes, times, what links lead to, and how many names a file has.
const describe = `find . -printf '%P|%y|%m|%U:%G|%s|%T@|%l|%n\n' | grep -v '^[^|]*|d' | sort; find . -type d -printf '%P|%m|%U:%G|%T@\n' | sort`

func describeHere(t *testing.T, dir string) string {
	t.Helper()
	cmd := exec.Command("sh", "-c", describe)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(out))
}

// treeToCopy makes one of everything that a copy keeps.
func treeToCopy(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "a tree")
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	check(os.MkdirAll(filepath.Join(dir, "sub", "empty"), 0o755))
	for name, mode := range map[string]os.FileMode{"plain": 0o644, "secret": 0o600, "program": 0o755, "sub/two words": 0o444} {
		check(os.WriteFile(filepath.Join(dir, name), []byte("content of "+name), 0o600))
		check(os.Chmod(filepath.Join(dir, name), mode))
	}
	check(os.Symlink("plain", filepath.Join(dir, "link")))
	check(os.Symlink("/nowhere", filepath.Join(dir, "sub", "dangling")))
	check(os.Link(filepath.Join(dir, "plain"), filepath.Join(dir, "sub", "hard")))
	f, err := os.Create(filepath.Join(dir, "sparse"))
	check(err)
	_, err = f.WriteAt([]byte("data"), 100<<20)
	check(err)
	check(f.Truncate(200 << 20))
	check(f.Close())
	old := time.Unix(1_000_000_000, 123_000_000)
	for _, name := range []string{"plain", "sparse", "sub/empty", "sub", "."} {
		check(os.Chtimes(filepath.Join(dir, name), old, old))
	}
	if os.Geteuid() == 0 { // only root can see whether owners are kept
		check(os.Lchown(filepath.Join(dir, "secret"), 1234, 2345))
	}
	return dir
}

// A tree is the same in the VM, and again when it has come back.
func TestCopyTrees(t *testing.T) {
	b := web(t)
	dir := treeToCopy(t)
	t.Cleanup(func() { b.in("web", "rm -rf '/tmp/a tree' /tmp/by-*") })
	b.ok("vm", "cp", dir, "web:/tmp")
	want := describeHere(t, dir)
	there := b.in("web", "cd '/tmp/a tree' && LC_ALL=C && export LC_ALL && "+describe)
	if os.Geteuid() != 0 { // what is ours is root's there
		there = strings.ReplaceAll(there, "|0:0|", "|"+owner()+"|")
	}
	if there != want {
		t.Errorf("here\n%s\nin the VM\n%s", want, there)
	}
	if blocks := b.in("web", "stat -c %b '/tmp/a tree/sparse'"); len(blocks) > 4 {
		t.Errorf("the sparse file has %s blocks in the VM", blocks)
	}
	back := filepath.Join(t.TempDir(), "back")
	b.ok("vm", "cp", "web:/tmp/a tree", back)
	if got := describeHere(t, back); got != want {
		t.Errorf("sent\n%s\ncame back\n%s", want, got)
	}
	command(t, "diff", "-r", "--no-dereference", dir, back)
	var st unix.Stat_t
	if err := unix.Stat(filepath.Join(back, "sparse"), &st); err != nil || st.Blocks > 10_000 {
		t.Errorf("the sparse file has %d blocks here, %v", st.Blocks, err)
	}
	// From VM to VM, here the same one, and single files under new names.
	b.ok("vm", "cp", "web:/tmp/a tree/program", "web:/tmp/by-name")
	b.ok("vm", "cp", "web:/tmp/by-name", filepath.Join(back, "program"))
	command(t, "diff", filepath.Join(dir, "program"), filepath.Join(back, "program"))
}

func owner() string {
	return fmt.Sprintf("%d:%d", os.Geteuid(), os.Getegid())
}

// A tar stream goes in and comes out, with any tar's help on this side.
func TestCopyStreams(t *testing.T) {
	b := web(t)
	dir := treeToCopy(t)
	stream, err := exec.Command("tar", "-c", "-C", dir, "plain", "sub").Output()
	if err != nil {
		t.Fatal(err)
	}
	b.in("web", "mkdir -p /tmp/by-stream")
	if r := b.input(string(stream), "vm", "cp", "-", "web:/tmp/by-stream"); r.code != 0 {
		t.Fatalf("%+v", r)
	}
	if got := b.in("web", "cat '/tmp/by-stream/sub/two words'; stat -c ' %a' '/tmp/by-stream/sub/two words'"); got != "content of sub/two words 444" {
		t.Errorf("in the VM: %q", got)
	}
	list := exec.Command("tar", "-t")
	list.Stdin = strings.NewReader(b.ok("vm", "cp", "web:/tmp/by-stream", "-"))
	out, err := list.Output()
	if err != nil || !strings.Contains(string(out), "by-stream/sub/two words\n") {
		t.Errorf("tar t: %v\n%s", err, out)
	}
	for _, c := range []struct {
		args []string
		code int
	}{
		{[]string{"vm", "cp", "web:/no/such/file", t.TempDir()}, 3},
		{[]string{"vm", "cp", filepath.Join(dir, "plain"), "web:/no/such/directory/x"}, 3},
		{[]string{"vm", "cp", "web:/dev/null", t.TempDir()}, 1},
		{[]string{"vm", "cp", dir, "web:/etc/passwd"}, 1},
	} {
		if r := b.run(c.args...); r.code != c.code || r.err == "" {
			t.Errorf("%q: %+v, want exit code %d", c.args, r, c.code)
		}
	}
	b.in("web", "rm -rf /tmp/by-stream")
}

// copiesWithoutTar: the guest program needs nothing of the image's.
func copiesWithoutTar(t *testing.T, b box) {
	t.Helper()
	dir := treeToCopy(t)
	if err := os.Remove(filepath.Join(dir, "sparse")); err != nil {
		t.Fatal(err)
	}
	b.ok("vm", "cp", dir, "bare:/root/tree")
	back := filepath.Join(t.TempDir(), "back")
	b.ok("vm", "cp", "bare:tree", back)
	command(t, "diff", "-r", "--no-dereference", dir, back)
}
