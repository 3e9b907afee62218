// Package vm is the life of a VM: create, start, stop, delete, and what a
// daemon does about VMs that it finds. It knows contracts, never a VMM, a disk
// format or a network mode; store, clock and images it meets as interfaces of
// its own.
//
// A VM is two lists of steps. exist: record with its lease, directory, root
// disk, work disk. run: disks attached, initramfs, network, VMM, guest. Undo, stop, delete
// and repair take the same lists down; only intent is recorded, before the side
// effect, and what exists is read from the system.
package vm

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"banger"
	"banger/internal/guest"
	"banger/internal/guestapi"
	"banger/internal/keylock"
	"banger/internal/network"
	"banger/internal/steps"
	"banger/internal/storage"
	"banger/internal/vmm"
)

// A Store keeps the records. Its errors are *banger.Error.
type Store interface {
	// CreateVM writes r with the lease that lease chooses, given all leases
	// there are, in one transaction. Exists if the name is taken.
	CreateVM(ctx context.Context, r banger.Record, lease func(taken []banger.Lease) (banger.Lease, error)) (banger.Record, error)
	VM(ctx context.Context, id banger.VMID) (banger.Record, error)
	FindVM(ctx context.Context, ref string) (banger.Record, error) // by name or unique prefix of the ID
	VMs(ctx context.Context) ([]banger.Record, error)
	UpdateVM(ctx context.Context, id banger.VMID, change func(*banger.Record) error) (banger.Record, error)
	DeleteVM(ctx context.Context, id banger.VMID) error // idempotent
	Image(ctx context.Context, ref string) (banger.Image, error)
}

// Images says which image a name means, and where an image's files are.
type Images interface {
	// Resolve finds the image of that name, the default for "", registering it
	// from a runtime bundle (bundle, or where one is searched for) if need be.
	Resolve(ctx context.Context, name, bundle string, rep Reporter) (banger.Image, error)
	// Files returns the verified files of an image.
	Files(ctx context.Context, img banger.Image) (Files, error)
	// Collect removes the images that have lost their name and that no VM uses.
	Collect(ctx context.Context) error
}

// Files are an image's artifacts on disk, verified.
type Files struct {
	Rootfs, Kernel, Initramfs, Modules string
	VMLinux                            string // "": the image has none
}

// A Reporter hears what an operation is doing.
type Reporter interface {
	Step(name string)
	StepDone(name string, elapsed time.Duration)
	Progress(step string, done, total int64)
	Message(format string, a ...any)
}

// Paths says where a VM's files lie.
type Paths interface {
	VMs() string                 // in the state directory, 0700: of all VMs
	VMDir(banger.VMID) string    // therein, 0700
	RunVMDir(banger.VMID) string // in the run directory, 0700
	Initrd(id banger.VMID, launch string) string
	Serial(banger.VMID) string
	VMMLog(banger.VMID) string
	Failed() string // directory of logs of failed starts
	Prepare() error // makes the directories that hold all these, as after a logout emptied the run directory
}

// Guests reaches the guest programs of VMs, one kept-open connection each.
type Guests interface {
	// Reach returns once the guest program answers, ctx ends or gone closes.
	Reach(ctx context.Context, t Target, gone <-chan struct{}) (Guest, error)
	// Drop closes the connection to a launch of a VM, if there is one.
	Drop(id banger.VMID, launch string)
	Close()
}

// A Guest is one VM's guest program.
type Guest interface {
	Status(ctx context.Context) (guestapi.Status, error)
	WaitBooted(ctx context.Context) (guestapi.Status, error)
	Shutdown(ctx context.Context, how string) error // "poweroff" or "reboot"; answered at once
	Exec(ctx context.Context, e guestapi.Exec, s guest.Streams) (guest.Exit, error)
	Copy(ctx context.Context, c guestapi.Copy, s guest.Streams) (guest.Exit, error)
}

// A Target is where and as what a guest program is reached.
type Target struct {
	VM     banger.VMID
	Launch string
	Addr   string    // host:port
	VSock  vmm.VSock // leads there without the guest's network; nil: nothing does
	Key    string    // the VM's SSH host key, PEM: what it must prove to hold

	Emulated bool // its CPU is software
}

// Limits are what specs are held against, and what they default to.
type Limits struct {
	CPUs       int   // default
	Memory     int64 // default, bytes
	Disk       int64 // default, bytes
	WorkDisk   int64 // default, bytes; 0: none
	HostMemory func() (int64, error)
}

// Timeouts bound the phases of a VM's life.
type Timeouts struct {
	Ready time.Duration // from launch until the guest program answers
	Stop  time.Duration // from asking the guest until it is killed, unless the user says otherwise
}

// Config is all that a Manager works with.
type Config struct {
	Store         Store
	Images        Images
	Backends      []vmm.Backend // in order of preference
	Disks         []storage.Strategy
	WorkDisks     WorkDisks
	Nets          []network.Attacher
	Paths         Paths
	Guests        Guests
	IdentityFile  string // path of the installation's private key, for ssh(1)
	AuthorizedKey string // the installation's public key, authorized_keys format
	Limits        Limits
	Timeouts      Timeouts
	Subnet        func() network.Subnet
	Lease         func(id banger.VMID, taken []banger.Lease) (banger.Lease, error)
	Owner         func(banger.Lease) *banger.Owner // nil result: the daemon's own user
	Guest         string                           // path of the banger-guest program to join
	Backend       string                           // default backend by name; "": the first that works
	Image         string                           // default image by name; "": the bundle's default
	Network       string                           // default network mode; "": auto
	NoNAT         bool                             // VMs in mode routed have no NAT by default
	Isolate       bool                             // VMs in mode routed are isolated by default
	SerialMax     int64                            // bytes a log may have
	CutLog        func(path string, limit int64) error
	Room          func(dir string) (free, reserve int64, err error) // bytes; nil: nobody looks
	Autostart     bool                                              // VMs that start with the daemon are due: it is the first one since the host booted
	Autostarted   func()                                            // called once all that are due have been begun; may be nil
	Now           func() time.Time
	Log           *slog.Logger
	Hook          func(id banger.VMID, step string, at steps.Phase) error // tests fail and kill with it
	Bound         Bound                                                   // nil: the steps' own deadlines
	Events        int                                                     // how many a client may come late for; 0: 4096
}

// A Manager runs all VMs of one installation.
type Manager struct {
	c     Config
	locks keylock.Map[banger.VMID]
	feed  *feed

	looking sync.Mutex // one at a time looks at the room

	refused atomic.Bool // nobody but a person can start banger-root: it was tried

	claims sync.Mutex // held from the look at all published ports until a record is written

	mu    sync.Mutex
	lives map[banger.VMID]*life
	phase map[banger.VMID]banger.State       // of changes under way: starting, stopping
	mends map[banger.VMID]context.CancelFunc // repairs under way

	consoles map[banger.VMID]bool // to which somebody is attached

	reboots map[banger.VMID][]time.Time // of guests, within rebootWindow
	news    chan struct{}               // closed and replaced whenever something observable changed
	wait    sync.WaitGroup              // goroutines that watch VMMs

	ctx  context.Context // ends with Close
	stop context.CancelFunc
}

// New returns a Manager that has looked at nothing yet; call Reconcile.
func New(c Config) *Manager {
	ctx, stop := context.WithCancel(context.Background())
	m := &Manager{c: c, feed: newFeed(c.Now, c.Events), lives: map[banger.VMID]*life{}, phase: map[banger.VMID]banger.State{}, mends: map[banger.VMID]context.CancelFunc{}, consoles: map[banger.VMID]bool{}, reboots: map[banger.VMID][]time.Time{}, news: make(chan struct{}), ctx: ctx, stop: stop}
	m.c.Store = newsStore{c.Store, m.written}
	return m
}

// Close lets go of all VMs: they live on. It returns when nothing of the
// Manager runs any more.
func (m *Manager) Close() {
	m.stop()
	m.EndEvents()
	m.mu.Lock()
	for _, l := range m.lives {
		if l.proc != nil {
			l.proc.Close()
		}
	}
	m.mu.Unlock()
	m.c.Guests.Close()
	m.wait.Wait()
}
