package kvm

import (
	"fmt"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

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
	// KVM wants a VM's calls from one process, a CPU's best from one thread.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if v, err := ioctl(kvm, kvmGetAPIVersion, nil); err != nil || v != kvmAPIVersion {
		return fmt.Errorf("API version %d: %w", v, err)
	}
	vm, err := ioctl(kvm, kvmCreateVM, nil)
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
	if _, err := ioctl(vm, kvmSetMemory, unsafe.Pointer(&region)); err != nil {
		return fmt.Errorf("give it memory: %w", err)
	}
	cpu, err := ioctl(vm, kvmCreateVCPU, nil)
	if err != nil {
		return fmt.Errorf("create a CPU: %w", err)
	}
	defer unix.Close(cpu)
	size, err := ioctl(kvm, kvmVCPUMmapSize, nil)
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
	if _, err := ioctl(cpu, kvmRun, nil); err != nil {
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
	if _, err := ioctl(cpu, kvmGetSregs, unsafe.Pointer(&sregs)); err != nil {
		return err
	}
	// cs is the first segment: base (8 bytes), limit (4), selector (2).
	clear(sregs[0:8])
	clear(sregs[12:14])
	if _, err := ioctl(cpu, kvmSetSregs, unsafe.Pointer(&sregs)); err != nil {
		return err
	}
	var regs [regsSize]byte
	regs[regsRIP] = 0
	regs[regsRFlags] = 2 // the bit that is always set
	_, err := ioctl(cpu, kvmSetRegs, unsafe.Pointer(&regs))
	return err
}

// ioctl converts arg in the call itself, which keeps it where it is.
func ioctl(fd int, request uintptr, arg unsafe.Pointer) (int, error) {
	for {
		r, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), request, uintptr(arg))
		if errno == unix.EINTR {
			continue // the runtime's own signals
		}
		if errno != 0 {
			return 0, errno
		}
		return int(r), nil
	}
}
