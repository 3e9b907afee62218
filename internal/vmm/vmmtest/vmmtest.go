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
// what its guest shall do.
func (b Bench) machine(t *testing.T, what string) vmm.Machine {
	t.Helper()
	m := vmm.Machine{
		VM: "0a1b2c3d", Name: "vmmtest", Launch: newLaunch(),
		Kernel: b.Kernel, VMLinux: b.VMLinux, Initrd: b.Initrd, Cmdline: []string{"quiet", "panic=1", "net.ifnames=0", "vmmtest=" + what},
		CPUs: 1, Memory: 192 << 20,
		Net: banger.Endpoint{User: &banger.UserNet{
			Subnet: netip.MustParsePrefix("172.30.0.0/20"), Gateway: netip.MustParseAddr("172.30.0.1"), Resolver: netip.MustParseAddr("172.30.0.2"),
		}},
		Addr: "172.30.0.3", GuestPort: 5122, MAC: mac, Owner: b.Owner,
	}
	Place(t, &m)
	m.Disks = []vmm.Disk{b.Root(t, m.Dir), {Path: b.Modules, Format: banger.FormatRaw, ReadOnly: true}}
	if b.Net != nil {
		m.Net = b.Net(t, netip.MustParseAddr(m.Addr), m.Dir)
	}
	return m
}

// Owner is whom VMMs run as where the tests are root, else nil.
func Owner() *banger.Owner {
	if os.Geteuid() != 0 {
		return nil
	}
	return &banger.Owner{UID: 0x70000001, GID: 0x70000001}
}

// Place gives m a directory, 0700 and its owner's, and logs in it. Whatever is
// left of m when the test ends is an error.
func Place(t *testing.T, m *vmm.Machine) {
	t.Helper()
	m.Dir = filepath.Join(PublicDir(t), "vm,1") // a comma, to be escaped
	err := os.Mkdir(m.Dir, 0o700)
	if m.Owner != nil {
		err = errors.Join(err, os.Chown(m.Dir, int(m.Owner.UID), int(m.Owner.GID)))
	}
	if err != nil {
		t.Fatal(err)
	}
	m.SerialLog, m.VMMLog = filepath.Join(m.Dir, "serial.log"), filepath.Join(m.Dir, "vmm.log")
	launch := m.Launch
	t.Cleanup(func() {
		for _, pid := range running(t, launch) {
			t.Errorf("process %d is left of the VM", pid)
			end(t, pid)
		}
	})
}

// PublicDir is a directory that a VM's own user can enter, until the test ends. Control
// sockets want short paths: it is not below t.TempDir.
func PublicDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "vmmtest")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// StandIn is a directory, to be a PATH, where the test's own program is the VMM
// called name.
func StandIn(t *testing.T, name string) string {
	t.Helper()
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	dir := PublicDir(t)
	if err := os.WriteFile(filepath.Join(dir, name), self, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// Start starts m and closes what it got when the test ends.
func Start(t *testing.T, backend vmm.Backend, m vmm.Machine) vmm.Process {
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

// Wait returns how the VM ended, which must be soon, and fails the test if its
// process lives.
func Wait(t *testing.T, p vmm.Process) banger.Exit {
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

func Kill(t *testing.T, p vmm.Process) {
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

// WantEnd fails the test unless the VM ends by itself as want says; an exit's time
// is not compared. To kill it is too late then, and changes nothing.
func WantEnd(t *testing.T, p vmm.Process, want banger.Exit) {
	t.Helper()
	got := Wait(t, p)
	got.At = time.Time{}
	if got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	Kill(t, p)
	if e := Wait(t, p); e.Cause != want.Cause {
		t.Errorf("after Kill: %+v", e)
	}
}
