package qemu

import (
	"errors"
	"fmt"
	"os"
	"os/user"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const (
	accelKVM = "kvm"
	accelTCG = "tcg"
	device   = "/dev/kvm"
)

// A kvm remembers what a probe of KVM found, as far as it stays true.
type kvm struct {
	works bool
	hung  bool // a first guest did not end: its thread is stuck, none other shall be
}

// errHung is what is said of a KVM that took a guest and never came back.
var errHung = errors.New("no KVM: " + device + " is there, but a first guest did not end")

// guestLimit is how long a guest of one instruction may take.
const guestLimit = 2 * time.Second

// probe returns nil only if a guest has run; uid is the daemon's. A /dev/kvm
// that opens is no proof: on some cloud machines the module is a paravirtual
// one that emulates every instruction and dies on the first that it does not
// know. A guest of one instruction runs even there (measured), so the CPU must
// also show the hardware's flag.
func (k *kvm) probe(uid int) error {
	switch {
	case k.works:
		return nil
	case k.hung:
		return errHung
	}
	b, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return err
	}
	if !virtualises(string(b)) {
		return errors.New("no KVM: the CPU shows neither vmx nor svm in /proc/cpuinfo")
	}
	f, err := openKVM(uid)
	if err != nil {
		return err
	}
	// A broken KVM may hang in the call, for which there is no deadline.
	done := make(chan error, 1)
	go func() { defer f.Close(); done <- runGuest(int(f.Fd())) }()
	late := time.NewTimer(guestLimit)
	defer late.Stop()
	select {
	case err := <-done:
		if err != nil {
			return fmt.Errorf("no KVM: %s is there, but a first guest failed: %w", device, err)
		}
		k.works = true
		return nil
	case <-late.C:
		k.hung = true
		return errHung
	}
}

// openKVM opens the device; as root, only if a VM's own user could.
func openKVM(uid int) (*os.File, error) {
	st, err := os.Stat(device)
	if err != nil {
		return nil, fmt.Errorf("no KVM: %w", err)
	}
	if mode := st.Mode().Perm(); uid == 0 && mode&0o006 != 0o006 && (mode&0o060 != 0o060 || gidOf(st) == 0) {
		return nil, fmt.Errorf("no KVM: only root may open %s (mode %04o), and a VMM never runs as root", device, mode)
	}
	f, err := os.OpenFile(device, os.O_RDWR, 0)
	if errors.Is(err, os.ErrPermission) {
		return nil, fmt.Errorf("no KVM: permission denied on %s; join its group: sudo usermod -aG %s $USER, then log in again", device, groupOf(st))
	}
	if err != nil {
		return nil, fmt.Errorf("no KVM: %w", err)
	}
	return f, nil
}

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
