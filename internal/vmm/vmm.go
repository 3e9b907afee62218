// Package vmm is the contract between a VM's lifecycle and the program that
// runs it: Backend and Process. It knows no VMM; its children do.
package vmm

import (
	"context"
	"errors"
	"fmt"
	"net"

	"banger"
)

// ErrGone is returned by Adopt when no VMM of that handle lives.
var ErrGone = errors.New("the VMM is gone")

// ErrNoGuest is an ErrGone: a VMM lived, but the daemon that launched it had died
// before it started the guest, and so Adopt has ended it.
var ErrNoGuest = fmt.Errorf("it had no guest yet: %w", ErrGone)

// A Backend boots microVMs. Powers only some have (pause, snapshot) are
// separate one-method interfaces, found by type assertion.
type Backend interface {
	Name() string
	// Probe says whether this backend is usable here and what it offers. Its
	// error is a *banger.Error with the remedy. It is cheap when called again.
	Probe(ctx context.Context) (Caps, error)
	// Start launches the VMM in its own session, independent of ctx once it
	// returns; ctx bounds the launch alone. It returns when the VMM runs and
	// its control socket answers; a failed Start leaves no process. The VMM's
	// argv holds m.Launch, so that Adopt and Reap find it whatever happens.
	// The launched func, if not nil, is called with the handle as soon as the
	// PID is known, before Start waits for anything.
	Start(ctx context.Context, m Machine, launched func(banger.Handle) error) (Process, error)
	// Adopt finds a VMM that an earlier daemon launched, by h's PID and start
	// time or, where they are missing, by h.Launch in the argv of one of this
	// user's processes. It proves the identity; ErrGone if it no longer lives,
	// ErrNoGuest if it was never told to start its guest.
	Adopt(ctx context.Context, h banger.Handle) (Process, error)
}

// A Process is one running VMM. It outlives the daemon.
type Process interface {
	Handle() banger.Handle
	// Shutdown asks the guest to power off by what the machine offers (ACPI,
	// Ctrl-Alt-Del) and returns at once.
	Shutdown(ctx context.Context) error
	// Kill does not ask; it returns when the process is gone. Idempotent.
	Kill(ctx context.Context) error
	// Wait blocks until the VMM has ended, and may be called by many. When the
	// guest has ended but its VMM stays (QEMU's -no-shutdown), Wait ends the
	// VMM first.
	Wait(ctx context.Context) (banger.Exit, error)
	// Close gives up the control connection; the VMM lives on.
	Close() error
}

// A Consoler is a Process that lets somebody attach to its guest's serial
// console: what the guest says from now on is read, what is written the guest
// reads. Closing the connection detaches. One at a time; who is attached must
// read, or the guest waits. The log goes on beside it.
type Consoler interface {
	Console(ctx context.Context) (net.Conn, error)
}

// A VSock is a Process that leads to its guest past the guest's network.
type VSock interface {
	// DialVSock connects to a port of the guest's on AF_VSOCK. It fails at once where
	// nobody listens there; ErrNoVSock if this VM has no such device.
	DialVSock(ctx context.Context, port uint32) (net.Conn, error)
}

// ErrNoVSock is returned by DialVSock when the VM was launched without a vsock.
var ErrNoVSock = errors.New("the VM has no vsock")

// A Talker is a Process whose VMM writes logs of its own, beside the Machine's.
type Talker interface {
	// CutLogs bounds each of them to about limit bytes on disk.
	CutLogs(limit int64) error
}

// Caps is what a backend offers on this host.
type Caps struct {
	Formats     []banger.DiskFormat // what it can boot from
	Accelerator string              // "kvm" or "tcg"
	Why         string              // why this accelerator: one line for doctor and errors
	Version     string              // of the VMM program
	Stream      bool                // Endpoint.Socket can be used
	NeedsTap    bool                // no endpoint but one with a Tap can be used
	Warning     string              // what is wrong with this version, for doctor; "": nothing known
}

// A Machine is all that a backend needs to boot one VM. Paths are absolute.
type Machine struct {
	VM        banger.VMID
	Name      string   // for process listings and logs
	Launch    string   // unique to this launch, stored before it
	Dir       string   // the VM's 0700 directory in the state directory: control socket
	Kernel    string   // bzImage
	VMLinux   string   // the same kernel as an ELF file; "": the image has none
	Initrd    string   // the joined initramfs; may be unlinked once Start has returned
	Cmdline   []string // kernel arguments that do not depend on the backend
	CPUs      int
	Memory    int64  // bytes
	Disks     []Disk // in the order of guestapi's device names
	Net       banger.Endpoint
	Addr      string // the guest's IPv4 address
	GuestPort int    // what Net.SSH leads to in the guest
	MAC       string
	SerialLog string // appended to; the daemon cuts it
	VMMLog    string // the VMM's own stdout and stderr; appended to
	Owner     *banger.Owner
}

// A Disk is one block device of a Machine.
type Disk struct {
	Path     string
	Format   banger.DiskFormat
	ReadOnly bool
}
