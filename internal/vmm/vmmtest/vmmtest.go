// Package vmmtest is the conformance suite of VMM backends: what each must do
// with real guests. It knows no VMM; who runs it hands one in.
package vmmtest

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"banger"
	"banger/internal/vmm"
)

// limit is how long a test waits for what must come: a boot under emulation on
// a loaded machine, many times over.
const limit = 90 * time.Second

// A Bench is a backend and what its guests are made of.
type Bench struct {
	// New returns a backend as a daemon that has just started has it. It lets
	// go of it when the test ends; VMs live on.
	New func(t *testing.T) vmm.Backend
	// Root makes a root disk of 64 MiB in the directory.
	Root    func(t *testing.T, dir string) vmm.Disk
	Kernel  string // a bundle's
	VMLinux string // the same as an ELF file; "": none
	Initrd  string // by Initrd
	Modules string // a bundle's: the second disk
	Owner   *banger.Owner
	// Net gives a VM with this address and directory another network than user
	// mode on the VMM's own stack; may be nil.
	Net func(t *testing.T, addr netip.Addr, dir string) banger.Endpoint
}

const mac = "52:54:00:12:34:56"

// Run runs the suite: one VM or two per case, one after the other.
func Run(t *testing.T, b Bench) {
	for _, c := range []struct {
		name string
		run  func(t *testing.T, b Bench)
	}{
		{"boots", testBoots},
		{"console", testConsole},
		{"poweroff", testPoweroff},
		{"reboot", testReboot},
		{"panic", testPanic},
		{"shutdown", testShutdown},
		{"kill", testKill},
		{"killed by another", testKilledByAnother},
		{"outlives its request", testOutlivesRequest},
		{"adopt", testAdopt},
		{"adopt by launch ID", testAdoptByLaunch},
		{"adopt after the guest's end", testAdoptAfterEnd},
		{"adopt what is gone", testAdoptGone},
		{"start that fails", testStartFails},
		{"start that is not recorded", testNotRecorded},
		{"start that is cancelled", testStartCancelled},
		{"start twice", testStartTwice},
		{"start again", testStartAgain},
		{"full log disk", testFullLogDisk},
	} {
		t.Run(c.name, func(t *testing.T) { c.run(t, b) })
	}
}

// machine returns a machine with a directory and a launch of its own; what is
// what its guest shall do. Whatever is left of it when the test ends is an error.
func (b Bench) machine(t *testing.T, what string) vmm.Machine {
	t.Helper()
	dir := b.dir(t)
	m := vmm.Machine{
		VM: "0a1b2c3d", Name: "vmmtest", Launch: newLaunch(), Dir: dir,
		Kernel: b.Kernel, VMLinux: b.VMLinux, Initrd: b.Initrd, Cmdline: []string{"quiet", "panic=1", "net.ifnames=0", "vmmtest=" + what},
		CPUs: 1, Memory: 192 << 20,
		Disks: []vmm.Disk{b.Root(t, dir), {Path: b.Modules, Format: banger.FormatRaw, ReadOnly: true}},
		Net: banger.Endpoint{User: &banger.UserNet{
			Subnet: netip.MustParsePrefix("172.30.0.0/20"), Gateway: netip.MustParseAddr("172.30.0.1"), Resolver: netip.MustParseAddr("172.30.0.2"),
		}},
		Addr: "172.30.0.3", GuestPort: 5122, MAC: mac,
		SerialLog: filepath.Join(dir, "serial.log"), VMMLog: filepath.Join(dir, "vmm.log"), Owner: b.Owner,
	}
	if b.Net != nil {
		m.Net = b.Net(t, netip.MustParseAddr(m.Addr), dir)
	}
	t.Cleanup(func() {
		for _, pid := range running(t, m.Launch) {
			t.Errorf("process %d is left of the VM", pid)
			end(t, pid)
		}
	})
	return m
}

// dir makes a VM's directory: 0700, its owner's, and on a way that he can go.
// Control sockets want short paths: it is not below t.TempDir.
func (b Bench) dir(t *testing.T) string {
	t.Helper()
	top, err := os.MkdirTemp("", "vmmtest")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(top); err != nil {
			t.Error(err)
		}
	})
	dir := filepath.Join(top, "vm,1") // a comma, to be escaped
	err = errors.Join(os.Chmod(top, 0o711), os.Mkdir(dir, 0o700))
	if b.Owner != nil {
		err = errors.Join(err, os.Chown(dir, int(b.Owner.UID), int(b.Owner.GID)))
	}
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// start starts m and closes what it got when the test ends.
func start(t *testing.T, backend vmm.Backend, m vmm.Machine) vmm.Process {
	t.Helper()
	p, err := backend.Start(t.Context(), m, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeProcess(t, p) })
	return p
}

func adopt(t *testing.T, backend vmm.Backend, h banger.Handle) vmm.Process {
	t.Helper()
	p, err := backend.Adopt(t.Context(), h)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeProcess(t, p) })
	return p
}

func closeProcess(t *testing.T, p vmm.Process) {
	t.Helper()
	if err := p.Close(); err != nil {
		t.Error(err)
	}
}

// wait returns how the VM ended, which must be soon, and fails the test if its
// process lives.
func wait(t *testing.T, p vmm.Process) banger.Exit {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	e, err := p.Wait(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if alive(p.Handle().PID) {
		t.Errorf("process %d lives", p.Handle().PID)
	}
	if e.At.IsZero() {
		t.Error("the exit has no time")
	}
	return e
}

func kill(t *testing.T, p vmm.Process) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	if err := p.Kill(ctx); err != nil {
		t.Fatal(err)
	}
	if alive(p.Handle().PID) {
		t.Errorf("process %d lives", p.Handle().PID)
	}
}
