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
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	accelKVM = "kvm"
	accelTCG = "tcg"
	device   = "/dev/kvm"
)

// accelerator returns "kvm" where it really works, else "tcg", and why.
func accelerator(uid int) (accel, why string) {
	if err := probeKVM(uid); err != nil {
		return accelTCG, err.Error() + "; guests are emulated in software, which is slow"
	}
	return accelKVM, "hardware virtualisation works"
}

// probeKVM returns nil only if a guest has run. A /dev/kvm that opens is no
// proof: on some cloud machines the module is a paravirtual one that emulates
// every instruction and dies on the first that it does not know.
func probeKVM(uid int) error {
	b, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return err
	}
	if !virtualises(string(b)) {
		return errors.New("no KVM: the CPU shows neither vmx nor svm in /proc/cpuinfo")
	}
	st, err := os.Stat(device)
	if err != nil {
		return fmt.Errorf("no KVM: %w", err)
	}
	if uid == 0 {
		// VMMs run as users of their own: only what all or the group may do counts.
		if st.Mode().Perm()&0o060 != 0o060 && st.Mode().Perm()&0o006 != 0o006 {
			return fmt.Errorf("no KVM: only root may open %s (mode %04o), and a VMM never runs as root", device, st.Mode().Perm())
		}
	}
	f, err := os.OpenFile(device, os.O_RDWR|unix.O_CLOEXEC, 0)
	if errors.Is(err, os.ErrPermission) {
		return fmt.Errorf("no KVM: permission denied on %s: join its group with: sudo usermod -aG %s $USER", device, groupOf(st))
	}
	if err != nil {
		return fmt.Errorf("no KVM: %w", err)
	}
	// A broken KVM may hang in the call: it gets a thread of its own, and a deadline.
	done := make(chan error, 1)
	go func() { defer f.Close(); done <- runGuest(int(f.Fd())) }()
	select {
	case err := <-done:
		if err != nil {
			return fmt.Errorf("no KVM: %s is there, but a first guest failed: %w", device, err)
		}
		return nil
	case <-time.After(2 * time.Second):
		return fmt.Errorf("no KVM: %s is there, but a first guest did not end", device)
	}
}

func groupOf(st os.FileInfo) string {
	sys, ok := st.Sys().(*syscall.Stat_t)
	if !ok {
		return "kvm"
	}
	gid := strconv.Itoa(int(sys.Gid))
	if g, err := user.LookupGroupId(gid); err == nil {
		return g.Name
	}
	return gid
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

// Numbers and layouts of linux/kvm.h, x86-64.
const (
	kvmGetAPIVersion = 0xAE00
	kvmCreateVM      = 0xAE01
	kvmVCPUMmapSize  = 0xAE04
	kvmCreateVCPU    = 0xAE41
	kvmSetMemory     = 0x4020AE46
	kvmRun           = 0xAE80
	kvmSetRegs       = 0x4090AE82
	kvmGetSregs      = 0x8138AE83
	kvmSetSregs      = 0x4138AE84
	kvmAPIVersion    = 12
	kvmExitHLT       = 5
	sregsSize        = 312 // struct kvm_sregs
	regsSize         = 144 // struct kvm_regs
	regsRIP          = 16 * 8
	regsRFlags       = 17 * 8
	runExitReason    = 8 // offset in struct kvm_run
)

// runGuest runs a guest of one instruction, hlt in real mode at address 0, and
// returns nil if it exits as hardware makes it exit.
func runGuest(kvm int) error {
	if v, err := ioctl(kvm, kvmGetAPIVersion, 0); err != nil || v != kvmAPIVersion {
		return fmt.Errorf("API version %d: %w", v, err)
	}
	vm, err := ioctl(kvm, kvmCreateVM, 0)
	if err != nil {
		return fmt.Errorf("create a VM: %w", err)
	}
	defer unix.Close(vm)
	mem, err := unix.Mmap(-1, 0, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_ANONYMOUS)
	if err != nil {
		return err
	}
	defer unix.Munmap(mem)
	mem[0] = 0xf4 // hlt
	region := struct {
		slot, flags         uint32
		guest, size, mapped uint64
	}{size: 4096, mapped: uint64(uintptr(unsafe.Pointer(&mem[0])))}
	if _, err := ioctl(vm, kvmSetMemory, uintptr(unsafe.Pointer(&region))); err != nil {
		return fmt.Errorf("give it memory: %w", err)
	}
	cpu, err := ioctl(vm, kvmCreateVCPU, 0)
	if err != nil {
		return fmt.Errorf("create a CPU: %w", err)
	}
	defer unix.Close(cpu)
	size, err := ioctl(kvm, kvmVCPUMmapSize, 0)
	if err != nil {
		return err
	}
	run, err := unix.Mmap(cpu, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return err
	}
	defer unix.Munmap(run)
	if err := startAtZero(cpu); err != nil {
		return err
	}
	if _, err := ioctl(cpu, kvmRun, 0); err != nil {
		return fmt.Errorf("run: %w", err)
	}
	if reason := *(*uint32)(unsafe.Pointer(&run[runExitReason])); reason != kvmExitHLT {
		return fmt.Errorf("exit reason %d, not %d (HLT)", reason, kvmExitHLT)
	}
	return nil
}

// startAtZero sets cs:ip to 0:0.
func startAtZero(cpu int) error {
	var sregs [sregsSize]byte
	if _, err := ioctl(cpu, kvmGetSregs, uintptr(unsafe.Pointer(&sregs))); err != nil {
		return err
	}
	// cs is the first segment: base (8 bytes), limit (4), selector (2).
	clear(sregs[0:8])
	clear(sregs[12:14])
	if _, err := ioctl(cpu, kvmSetSregs, uintptr(unsafe.Pointer(&sregs))); err != nil {
		return err
	}
	var regs [regsSize]byte
	regs[regsRIP] = 0
	regs[regsRFlags] = 2 // the bit that is always set
	_, err := ioctl(cpu, kvmSetRegs, uintptr(unsafe.Pointer(&regs)))
	return err
}

func ioctl(fd int, request, arg uintptr) (int, error) {
	for {
		r, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), request, arg)
		if errno == unix.EINTR {
			continue
		}
		if errno != 0 {
			return 0, errno
		}
		return int(r), nil
	}
}
