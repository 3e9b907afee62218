package matrix

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"banger"
)

// TestFullDisk has the file system run full on which real VMs have their disks. One
// that writes stands still, is shown with why, under the next daemon too, and goes
// on where it was when there is room: what it wrote is whole. One that is started
// there fails at once, says why, and starts when there is room.
func TestFullDisk(t *testing.T) {
	build(t)
	if !inMounts(t) {
		return
	}
	var vms string
	b := newBoxOn(t, true, func(b *box) {
		vms = filepath.Join(b.State, "vms")
		if err := errors.Join(os.Mkdir(b.State, 0o711), os.Mkdir(vms, 0o711)); err != nil {
			t.Fatal(err)
		}
		if err := unix.Mount("banger", vms, "tmpfs", 0, "size=64m,mode=711"); err != nil {
			t.Fatal(err)
		}
	})
	resize := func(size string) {
		t.Helper()
		if err := unix.Mount("", vms, "", unix.MS_REMOUNT, "size="+size); err != nil {
			t.Fatal(err)
		}
	}
	defer func() {
		if err := errors.Join(unix.Unmount(vms, unix.MNT_DETACH), b.close()); err != nil {
			t.Error(err)
		}
	}()
	b.command("vm", "create", "--name", vmName, "--image", imageName, "--cpu", "1", "--memory", "128MiB", "--disk", "512MiB", "--work-disk", "64MiB", "--network", "user")

	big, back := filepath.Join(b.Dir, "big"), filepath.Join(b.Dir, "back")
	content := make([]byte, 80<<20)
	rand.Read(content)
	if err := os.WriteFile(big, content, 0o600); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	copied := b.Command(b.ctx(), "vm", "cp", big, vmName+":/big")
	var said bytes.Buffer
	copied.Stderr = &said
	if err := copied.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- copied.Wait() }()
	b.eventually("the VM is shown as paused", func() error {
		select {
		case err := <-ended:
			t.Fatalf("the copy has ended: %v\n%s", err, said.Bytes())
		default:
		}
		return b.paused()
	})
	stood := time.Since(began)
	if out, err := b.Command(b.ctx(), "vm", "exec", vmName, "--", "sh", "-c", ":").CombinedOutput(); err == nil || !strings.Contains(string(out), "paused: ") || !strings.Contains(string(out), "make room") {
		t.Errorf("a command in it: %v\n%s", err, out)
	}
	resize("128m")
	if err := <-ended; err != nil {
		t.Fatalf("the copy, once there was room: %v\n%s", err, said.Bytes())
	}
	b.same(big, back)

	resize("140m")
	copied = b.Command(b.ctx(), "vm", "cp", big, vmName+":/again")
	if err := copied.Start(); err != nil {
		t.Fatal(err)
	}
	b.eventually("the VM is paused again", b.paused)
	b.kill()
	if err := copied.Wait(); err == nil {
		t.Error("a copy has outlived its daemon")
	}
	b.up()
	b.eventually("the next daemon shows it as paused", b.paused)
	resize("400m")
	b.eventually("it goes on", func() error {
		return b.Command(b.ctx(), "vm", "exec", vmName, "--", "sh", "-c", ":").Run()
	})
	if state := b.settle(); state != string(banger.StateRunning) {
		t.Errorf("it is %s: %+v", state, b.shown(vmName).Problem)
	}
	b.same(big, back)

	b.command("vm", "stop", vmName)
	b.command("vm", "reset", vmName)
	resize("1m") // what is there stays, and nothing is added
	out, err := b.Command(b.ctx(), "vm", "start", vmName).CombinedOutput()
	if err == nil || !strings.Contains(string(out), "make room") {
		t.Errorf("a start without room: %v\n%s", err, out)
	}
	resize("400m")
	b.command("vm", "start", vmName)
	b.command("vm", "delete", "--force", vmName)
	t.Logf("report: a start without room: %s", strings.Join(strings.Fields(string(out)), " "))
	t.Logf("report: a full disk under a real QEMU: shown after %s of a copy; it goes on, under the next daemon too", stood.Round(time.Second))
}

// paused fails unless the VM runs, stands still and says why.
func (b *box) paused() error {
	v := b.shown(vmName)
	if v.State != banger.StateRunning || v.Ready || v.Problem == nil || !strings.HasPrefix(v.Problem.Message, "paused: ") {
		return fmt.Errorf("%s, ready: %t, problem: %+v", v.State, v.Ready, v.Problem)
	}
	return nil
}

// same fails unless the VM's /big is the file.
func (b *box) same(file, back string) {
	b.t.Helper()
	b.command("vm", "cp", vmName+":/big", back)
	want, err := os.ReadFile(file)
	if err != nil {
		b.t.Fatal(err)
	}
	if got, err := os.ReadFile(back); err != nil || !bytes.Equal(got, want) {
		b.t.Errorf("what came back is not what was copied: %v", err)
	}
}
