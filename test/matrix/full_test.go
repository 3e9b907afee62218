package matrix

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"banger"
	"banger/internal/steps"
)

// insideArg is set in the mount namespace of a test that is in one of its own.
const insideArg = "BANGER_MATRIX_INSIDE"

// TestStateDirectory fills the state directory, or makes it read-only, at every
// step: a clear error, nothing lost, and once there is room again all goes on.
// The mounts are in a namespace of the test's own, for which it needs root.
func TestStateDirectory(t *testing.T) {
	build(t)
	if !inMounts(t) {
		return
	}
	cases := 0
	for _, s := range []spoil{
		{"full", (*box).fill, (*box).makeRoom},
		{"read-only", (*box).seal, (*box).unseal},
	} {
		b := newBoxOn(t, false, func(b *box) {
			if err := os.Mkdir(b.State, 0o711); err != nil {
				t.Fatal(err)
			}
			if err := unix.Mount("banger", b.State, "tmpfs", 0, "size=128m,mode=711"); err != nil {
				t.Fatal(err)
			}
		})
		for _, o := range operations {
			if o.begin == nil || o.fails != "" {
				continue
			}
			cases += b.spoilt(t, o, s)
		}
		b.t = t
		b.up()
		b.bring(absent)
		b.end()
		if err := unix.Unmount(b.State, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
		if err := b.close(); err != nil {
			t.Error(err)
		}
	}
	t.Logf("report: state directory: full and read-only at every step: %d cases, 0 untested", cases)
}

// inMounts runs the test once more in a mount namespace of its own, and reports
// whether this is it.
func inMounts(t *testing.T) bool {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: mounts file systems of its own")
	}
	if os.Getenv(insideArg) != "" {
		if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
			t.Fatal(err)
		}
		return true
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self, "-test.run=^"+t.Name()+"$", "-test.v", "-test.timeout=15m")
	cmd.Env = append(os.Environ(), insideArg+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNS}
	out, err := cmd.CombinedOutput()
	if errors.Is(err, unix.EPERM) {
		t.Skip("needs root with CAP_SYS_ADMIN: may not make a mount namespace")
	}
	reported := false
	for line := range strings.Lines(string(out)) {
		if _, said, ok := strings.Cut(line, "report: "); ok {
			t.Logf("report: %s", strings.TrimSpace(said))
			reported = true
		}
	}
	if err != nil || !reported {
		t.Errorf("%v\n%s", err, out)
	}
	return false
}

// A spoil makes the state directory unusable, and usable again.
type spoil struct {
	name       string
	make, mend func(*box)
}

// spoilt does an operation with the state directory spoilt from each of its
// steps on, and returns how many cases that was.
func (b *box) spoilt(t *testing.T, o operation, s spoil) (cases int) {
	b.t = t
	b.up()
	b.bring(o.needs)
	b.run(trial{operation: o})
	done := map[point]bool{}
	for _, p := range b.faults.seen() {
		if p.phase() != string(steps.BeforeEnsure) && p.phase() != string(steps.BeforeRelease) || done[p] {
			continue
		}
		done[p] = true
		cases++
		t.Run(fmt.Sprintf("%s/%s/%s", s.name, o.name, p), func(t *testing.T) {
			b.t = t
			b.spoilAt(o, p, s)
		})
	}
	return cases
}

func (b *box) spoilAt(o operation, p point, s spoil) {
	t := b.t
	defer func() {
		if t.Failed() {
			t.Log(b.logTail())
		}
	}()
	b.up()
	b.bring(o.needs)
	trap := newTrap(p, func() (answer, bool) { s.make(b); return answer{}, true })
	b.faults.watch("", trap)
	op, err := o.begin(b)()
	if err == nil {
		_, err = op.Wait(b.ctx(), nil)
	}
	b.await(trap.hit, "the daemon to come to "+string(p))
	if e := banger.AsError(err); e != nil && (e.Code != banger.HostUnready || e.Remedy == "") {
		t.Errorf("no clear error: %s: %s (remedy: %s)", e.Code, e.Message, e.Remedy)
	}
	s.mend(b)
	// The daemon that saw it goes on: it is asked for the same again, or for
	// what the operation would have led to.
	b.end()
	meant := b.meant()
	b.faults.watch("")
	b.up()
	state := b.settle()
	if state != meant {
		t.Errorf("the VM is %s, and was meant to be %s", state, meant)
	}
	if err := b.compare(state); err != nil {
		t.Errorf("once there is room: %v", err)
	}
	b.bring("running")
	b.bring(absent)
}

func (b *box) filler() string { return filepath.Join(b.State, "filler") }

// fill leaves not a byte.
func (b *box) fill() {
	f, err := os.Create(b.filler())
	if err != nil {
		b.t.Error(err)
		return
	}
	defer f.Close()
	for _, size := range []int{1 << 20, 4096, 1} {
		for err = nil; err == nil; {
			_, err = f.Write(make([]byte, size))
		}
	}
	if !errors.Is(err, unix.ENOSPC) {
		b.t.Errorf("fill the state directory: %v", err)
	}
}

func (b *box) makeRoom() {
	if err := os.Remove(b.filler()); err != nil {
		b.t.Error(err)
	}
}

// seal lays a read-only view of the state directory over it: nothing can be
// made or opened for writing there; what is open stays so.
func (b *box) seal() {
	err := unix.Mount(b.State, b.State, "", unix.MS_BIND, "")
	if err == nil {
		err = unix.Mount("", b.State, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY, "")
	}
	if err != nil {
		b.t.Error(err)
	}
}

func (b *box) unseal() {
	if err := unix.Unmount(b.State, unix.MNT_DETACH); err != nil {
		b.t.Error(err)
	}
}
