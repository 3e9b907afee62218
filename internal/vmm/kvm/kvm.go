// Package kvm says whether hardware virtualisation really works for this
// daemon's VMMs, and lets them open /dev/kvm where only root may give them that.
// It knows no VMM.
package kvm

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/user"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"banger"
)

const device = "/dev/kvm"

// A Granter lets the daemon's user open /dev/kvm, and takes that back. Both are
// idempotent; what others gave stays.
type Granter interface {
	AllowKVM(ctx context.Context) error
	RevokeKVM(ctx context.Context) error
}

// A Device is /dev/kvm as the VMMs of one daemon see it. It remembers what a
// probe found, as far as it stays true.
type Device struct {
	uid     int     // of the daemon
	granter Granter // nil: nobody to ask

	mu      sync.Mutex
	works   bool
	granted bool // only with a grant
	hung    bool // a first guest did not end: its thread is stuck, none other shall be
	holds   int  // starts under way that need the grant
}

// New returns the device of a daemon that runs as uid; g may be nil.
func New(uid int, g Granter) *Device { return &Device{uid: uid, granter: g} }

// errHung is what is said of a KVM that took a guest and never came back.
var errHung = errors.New("no KVM: " + device + " is there, but a first guest did not end")

const (
	guestLimit  = 15 * time.Second // that a guest of one instruction may take: in an emulated machine, on a busy host, more than 2 s were seen
	revokeLimit = 10 * time.Second // that a grant may take to be taken back
)

// Probe returns nil only if a guest has run. A /dev/kvm that opens is no proof:
// on some cloud machines the module is a paravirtual one that emulates every
// instruction and dies on the first that it does not know. A guest of one
// instruction runs even there (measured), so the CPU must also show the
// hardware's flag. It is cheap when called again.
func (d *Device) Probe(ctx context.Context) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case d.works:
		return nil
	case d.hung:
		return errHung
	}
	b, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return err
	}
	if !virtualises(string(b)) {
		return errors.New("no KVM: the CPU shows neither vmx nor svm in /proc/cpuinfo")
	}
	f, err := open(d.uid)
	if err == nil {
		return d.try(f)
	}
	if !errors.Is(err, os.ErrPermission) || d.granter == nil {
		return err
	}
	if gerr := d.hold(ctx); gerr != nil {
		return fmt.Errorf("%w; banger-root could give it: %w", err, gerr)
	}
	defer d.release()
	if f, err = open(d.uid); err != nil {
		return err
	}
	err = d.try(f)
	d.granted = err == nil
	return err
}

// try runs a first guest. A broken KVM may hang in the call, for which there is
// no deadline.
func (d *Device) try(f *os.File) error {
	done := make(chan error, 1)
	go func() { defer f.Close(); done <- runGuest(int(f.Fd())) }()
	late := time.NewTimer(guestLimit)
	defer late.Stop()
	select {
	case err := <-done:
		if err != nil {
			return fmt.Errorf("no KVM: %s is there, but a first guest failed: %w", device, err)
		}
		d.works = true
		return nil
	case <-late.C:
		d.hung = true
		return errHung
	}
}

// Hold lets a VMM that is about to start open the device, until release is
// called: what is open stays open. Where the user may open it anyway there is
// nothing to do. A daemon that dies in between leaves the grant to the next one's
// TakeBack.
func (d *Device) Hold(ctx context.Context) (release func(), err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.granted {
		return func() {}, nil
	}
	if err := d.hold(ctx); err != nil {
		return nil, banger.Errorf(banger.HostUnready, "open %s: %w", device, err)
	}
	return sync.OnceFunc(func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.release()
	}), nil
}

// TakeBack gives back a grant that an earlier daemon died with. Nobody to give it
// to is no error: there was no grant, or the next release gives it back.
func (d *Device) TakeBack(ctx context.Context) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.granter != nil && d.holds == 0 {
		_ = d.granter.RevokeKVM(ctx)
	}
}

// hold and release count, with mu held.
func (d *Device) hold(ctx context.Context) error {
	if d.holds == 0 {
		if err := d.granter.AllowKVM(ctx); err != nil {
			return err
		}
	}
	d.holds++
	return nil
}

func (d *Device) release() {
	if d.holds--; d.holds > 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), revokeLimit)
	defer cancel()
	// A banger-root that has gone meanwhile: the next grant's end takes it back.
	_ = d.granter.RevokeKVM(ctx)
}

// open opens the device; as root, only if a VM's own user could.
func open(uid int) (*os.File, error) {
	st, err := os.Stat(device)
	if err != nil {
		return nil, fmt.Errorf("no KVM: %w", err)
	}
	if mode := st.Mode().Perm(); uid == 0 && mode&0o006 != 0o006 && (mode&0o060 != 0o060 || gidOf(st) == 0) {
		return nil, fmt.Errorf("no KVM: only root may open %s (mode %04o), and a VMM never runs as root", device, mode)
	}
	f, err := os.OpenFile(device, os.O_RDWR, 0)
	if errors.Is(err, os.ErrPermission) {
		return nil, &denied{group: groupOf(st)}
	}
	if err != nil {
		return nil, fmt.Errorf("no KVM: %w", err)
	}
	return f, nil
}

// denied is that the user may not open the device.
type denied struct{ group string }

func (e *denied) Error() string {
	return fmt.Sprintf("no KVM: permission denied on %s; join its group: sudo usermod -aG %s $USER, then log in again", device, e.group)
}

func (e *denied) Unwrap() error { return os.ErrPermission }

// groupOf returns the name of a file's group.
func groupOf(st os.FileInfo) string {
	gid := strconv.Itoa(gidOf(st))
	if g, err := user.LookupGroupId(gid); err == nil {
		return g.Name
	}
	return gid
}

func gidOf(st os.FileInfo) int {
	if sys, ok := st.Sys().(*syscall.Stat_t); ok {
		return int(sys.Gid)
	}
	return 0
}

func virtualises(cpuinfo string) bool {
	for line := range strings.Lines(cpuinfo) {
		if k, v, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(k) == "flags" {
			for _, f := range strings.Fields(v) {
				if f == "vmx" || f == "svm" {
					return true
				}
			}
			return false
		}
	}
	return false
}
