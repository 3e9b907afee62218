package e2e

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"banger"
)

// workImage is the file of a VM's work disk.
func (b box) workImage(vm string) string {
	b.t.Helper()
	return filepath.Join(b.State, "vms", string(b.show(vm).ID), "work.img")
}

// unmounted fails if the host has mounted anything of the installation's, or has
// a loop device on it.
func (b box) unmounted() {
	b.t.Helper()
	left, err := b.Leftovers()
	if err != nil {
		b.t.Fatal(err)
	}
	for _, l := range left {
		if l.PID == 0 {
			b.t.Errorf("the host has a %s", l)
		}
	}
}

// A VM has its /root on a disk of its own, with what the image has there. It stays
// when the root disk is thrown away, and grows.
func TestWorkDisk(t *testing.T) {
	b := fresh(t)
	b.boot("home", "--work-disk", "1GiB")
	got := b.in("home", `findmnt -n -o SOURCE,FSTYPE /root; stat -c '%a %U' /root
		mkdir /tmp/below; mount --bind / /tmp/below; diff -r /root /tmp/below/root && ls -A /root | wc -l; umount /tmp/below
		mkdir -p /run/sshd; sshd -T | grep -E '^(permitrootlogin|pubkeyauthentication)'`)
	for _, want := range []string{"/dev/vdc ext4\n700 root\n", "permitrootlogin without-password", "pubkeyauthentication yes"} {
		if !strings.Contains(got, want) {
			t.Errorf("in the guest:\n%s\nwant %q", got, want)
		}
	}
	if strings.Contains(got, "\n0\n") || strings.Contains(got, "diff") || strings.Contains(got, "Only in") {
		t.Errorf("what the image has in /root is not there:\n%s", got)
	}
	b.in("home", "echo kept >/root/file; mkdir -p /root/root; echo deep >/root/root/deep; rm /root/.bashrc; echo gone >/opt/file")
	b.unmounted()
	b.ok("vm", "stop", "home")
	command(t, "e2fsck", "-fn", b.workImage("home")) // unmounted by the guest: nothing to replay
	b.ok("vm", "set", "home", "--work-disk", "3GiB")
	b.ok("vm", "reset", "home")
	b.ok("vm", "start", "home")
	got = b.in("home", "cat /root/file /root/root/deep; cat /opt/file; ls -A /root; df -k --output=size /root | tail -1")
	var size int64
	lines := strings.Fields(got)
	if _, err := fmt.Sscan(lines[len(lines)-1], &size); err != nil || size < 3<<20*9/10 || size > 3<<20 {
		t.Errorf("/root has %d KiB, %v", size, err)
	}
	if !strings.HasPrefix(got, "kept\ndeep\n") || strings.Contains(got, ".bashrc") || strings.Contains(got, "gone") {
		t.Errorf("after the reset:\n%s", got)
	}
	b.unmounted()
}

// A VM without a work disk has /root on its root disk.
func TestWithoutWorkDisk(t *testing.T) {
	b := fresh(t)
	b.boot("plain", "--work-disk", "0")
	if got := b.in("plain", "findmnt -n /root; [ -e /dev/vdc ] || echo none; cat /root/.bashrc | wc -c"); !strings.HasPrefix(got, "none\n") || got == "none\n0" {
		t.Errorf("in the guest: %s", got)
	}
	if v := b.show("plain"); v.WorkDisk != 0 || v.Problem != nil {
		t.Errorf("%+v", v)
	}
}

// A home directory that was put on the disk as a whole, root's and 0700, is
// flattened, once.
func TestNestedWorkDisk(t *testing.T) {
	b := fresh(t)
	b.ok(append([]string{"vm", "create", "--name", "nested", "--no-start", "--work-disk", "256MiB"}, cheap()...)...)
	outer, inner := filepath.Join(t.TempDir(), "outer"), filepath.Join(t.TempDir(), "inner")
	must(t, errors.Join(os.WriteFile(outer, []byte("outer\n"), 0o644), os.WriteFile(inner, []byte("inner\n"), 0o600)))
	for _, do := range []string{
		"mkdir /root", "set_inode_field /root mode 040700", "mkdir /root/.ssh", "write " + inner + " /root/.profile", "write " + inner + " /root/.ssh/mine",
		"write " + outer + " /.profile", "mkdir /.ssh", "write " + outer + " /.ssh/mine", "write " + outer + " /.ssh/old",
	} {
		command(t, "debugfs", "-w", "-R", do, b.workImage("nested")) // the host mounts nothing
	}
	b.ok("vm", "start", "nested")
	got := b.in("nested", "cd /root; stat -c %a .; ls -A; ls -A .ssh; cat .profile .profile.outer .ssh/mine .ssh/mine.outer .ssh/old")
	const want = "700\n.profile\n.profile.outer\n.ssh\nmine\nmine.outer\nold\ninner\nouter\ninner\nouter\nouter"
	if got != want {
		t.Errorf("flattened:\n%s\nwant\n%s", got, want)
	}
	b.in("nested", "mkdir -p /root/root; echo own >/root/root/own; sync")
	b.ok("vm", "kill", "nested")
	b.ok("vm", "start", "nested")
	if got := b.in("nested", "cat /root/root/own; ls -A /root | wc -l"); got != "own\n4" {
		t.Errorf("a later /root/root: %q", got)
	}
}

// A disk that is too small for what the image has in /root: the VM runs and says
// so, and once the disk has grown all is there.
//
// And QEMU is killed in the middle of filling it, several times: what comes then
// is as if nothing had been.
func TestWorkDiskCutWhileItIsFilled(t *testing.T) {
	b := fresh(t)
	const files = 70
	sums := map[string]string{}
	dir := bundleWith(t, b.Dir, "heavy", func(file string) {
		root := busyboxRoot(t)
		for i := range files {
			text := make([]byte, 1<<20)
			rand.Read(text)
			name := fmt.Sprintf("f%02d", i)
			must(t, os.WriteFile(filepath.Join(root, "root", name), text, 0o640))
			sums[name] = fmt.Sprintf("%x", sha256.Sum256(text))
		}
		must(t, errors.Join(os.Link(filepath.Join(root, "root/f00"), filepath.Join(root, "root/link")), os.Chmod(filepath.Join(root, "root"), 0o750)))
		command(t, "mke2fs", "-q", "-t", "ext4", "-E", "root_owner=0:0", "-d", root, file, "128M")
	})
	b.Set("BANGER_RUNTIME_DIR", dir)
	t.Cleanup(func() { b.run("vm", "delete", "--force", "heavy") })
	b.ok(append([]string{"vm", "create", "--name", "heavy", "--image", "heavy", "--disk", "128MiB", "--work-disk", "64MiB", "--no-start"}, cheap()...)...)
	if r := b.run("vm", "start", "heavy"); r.code != 0 || !strings.Contains(r.err, "too small") {
		t.Errorf("a disk that is too small: %+v", r)
	}
	if v := b.show("heavy"); v.Problem == nil || !v.Ready || !strings.Contains(v.Problem.Message, "too small") {
		t.Errorf("a disk that is too small: %+v", v)
	}
	if got := b.in("heavy", "ls /root | wc -l"); got != fmt.Sprint(files+1) { // the root disk's
		t.Errorf("/root has %s entries", got)
	}
	b.ok("vm", "kill", "heavy")
	b.ok("vm", "set", "heavy", "--work-disk", "256MiB")

	image := b.workImage("heavy")
	cuts := 0
	for _, part := range []int64{2, 24, 48} {
		if b.cutWhileFilling(image, part<<20) {
			cuts++
		}
	}
	if cuts == 0 {
		t.Error("it was never cut in the middle")
	}
	t.Logf("report: a work disk was cut off %d times while it was filled", cuts)
	b.ok("vm", "start", "heavy")
	got := b.in("heavy", "cd /root; busybox sha256sum f*; busybox stat -c '%a %h' . f00; busybox ls -A | busybox wc -l")
	for name, sum := range sums {
		if !strings.Contains(got, sum+"  "+name+"\n") {
			t.Errorf("%s is not what the image has", name)
		}
	}
	if want := fmt.Sprintf("750 2\n640 2\n%d", files+1); !strings.HasSuffix(got, want) {
		t.Errorf("/root: %s\nwant %s", got[max(0, len(got)-100):], want)
	}
	if v := b.show("heavy"); v.Problem != nil {
		t.Errorf("%+v", v.Problem)
	}
	b.unmounted()
}

// busyboxRoot makes a root directory with a shell and little else.
func busyboxRoot(t *testing.T) string {
	t.Helper()
	busybox, err := exec.LookPath("busybox")
	if err != nil {
		t.Fatalf("%v (apt install busybox-static)", err)
	}
	root := t.TempDir()
	for _, d := range []string{"bin", "etc", "root", "tmp"} {
		must(t, os.Mkdir(filepath.Join(root, d), 0o755))
	}
	command(t, "cp", "-L", busybox, filepath.Join(root, "bin", "busybox"))
	for _, name := range []string{"sh", "ls", "wc"} {
		must(t, os.Symlink("busybox", filepath.Join(root, "bin", name)))
	}
	must(t, os.WriteFile(filepath.Join(root, "etc", "passwd"), []byte("root::0:0::/root:/bin/sh\n"), 0o644))
	return root
}

// cutWhileFilling starts the VM heavy and kills its VMM once so much of its work
// disk is written. It reports whether that was before the VM was ready.
func (b box) cutWhileFilling(image string, written int64) bool {
	b.t.Helper()
	before := allocated(b.t, image)
	cmd := b.Command(b.t.Context(), "vm", "start", "heavy")
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	must(b.t, cmd.Start())
	ended := make(chan struct{})
	go func() {
		_ = cmd.Wait() // its exit code is looked at below
		close(ended)
	}()
	look := time.NewTicker(2 * time.Millisecond)
	defer look.Stop()
	late := time.After(limit)
	for cut := false; ; {
		select {
		case <-ended:
			if cut && cmd.ProcessState.ExitCode() == 0 {
				b.t.Errorf("a start whose VMM was killed: %s", &out)
			}
			b.run("vm", "kill", "heavy")
			return cut && cmd.ProcessState.ExitCode() != 0
		case <-late:
			b.t.Fatalf("the start does not end: %s", &out)
		case <-look.C:
		}
		if cut || allocated(b.t, image) < before+written {
			continue
		}
		v := b.show("heavy")
		if v.PID != 0 && !v.Ready && v.State == banger.StateStarting {
			must(b.t, syscall.Kill(v.PID, syscall.SIGKILL))
			cut = true
		}
	}
}

// allocated is how much of a file is on the disk, bytes.
func allocated(t *testing.T, file string) int64 {
	t.Helper()
	var st syscall.Stat_t
	must(t, syscall.Stat(file, &st))
	return st.Blocks * 512
}
