// Package banger holds the words of the product: what a VM, an image, a lease
// or an error is. It imports the standard library only; read it and you know
// what banger is about. Nothing here does anything to the host.
//
// The types carry JSON tags because they are what the wire and the database
// hold: the field names are a contract (docs/architecture.md).
package banger

import (
	"net/netip"
	"time"
)

// A VMID names a VM for good; its name may change. 8 lower-case hex digits,
// unique in the installation: short enough for the names of links and devices.
type VMID string

// Valid reports whether id has the form of a VMID.
func (id VMID) Valid() bool { return len(id) == 8 && isHex(string(id)) }

// A State is what a VM is doing, as observed: it is derived, never stored.
type State string

const (
	StateStopped  State = "stopped"
	StateStarting State = "starting"
	StateRunning  State = "running"
	StateStopping State = "stopping"
	StateError    State = "error" // its last start failed, or what it needs is broken; Problem says which
)

// A NetworkMode says how a VM reaches the world.
type NetworkMode string

const (
	NetworkAuto   NetworkMode = "auto"   // routed where banger-root can be had, else user
	NetworkUser   NetworkMode = "user"   // no privilege: the VMM's own user networking
	NetworkRouted NetworkMode = "routed" // a tap and a host route of its own
)

// A NAT says whether a VM in mode routed reaches the world, as the host. Mode
// user always does by itself.
type NAT string

const (
	NATOff      NAT = "off"
	NATWanted   NAT = "wanted"   // by default: a VM starts without it where it cannot be had
	NATRequired NAT = "required" // asked for: then it does not
)

// A Spec is what a VM was asked to be, complete: defaults are filled in.
type Spec struct {
	Name    string      `json:"name"`
	Image   string      `json:"image"`        // the name it was made from
	CPUs    int         `json:"cpus"`         // virtual CPUs, at least 1
	Memory  int64       `json:"memory_bytes"` // bytes
	Disk    int64       `json:"disk_bytes"`   // virtual size of the root disk, bytes
	Network NetworkMode `json:"network"`      // never auto: chosen at creation
	Backend string      `json:"backend"`      // chosen at creation

	WorkDisk  int64      `json:"work_disk_bytes"` // size of the disk that is its /root, bytes; 0: none
	Isolated  bool       `json:"isolated"`        // reaches neither other VMs nor, in user mode, anything at all
	NAT       NAT        `json:"nat"`             // routed: whether it reaches the world
	Publish   []Publish  `json:"publish"`         // ports of the host that lead to it; never null
	AllowHost []HostPort `json:"allow_host"`      // routed: ports of the host that it is let to; never null
	Autostart bool       `json:"autostart"`       // starts with the daemon
}

// A Lease is what the installation has given a VM until it is deleted.
type Lease struct {
	Addr      netip.Addr `json:"address"`
	MAC       string     `json:"mac"`        // xx:xx:xx:xx:xx:xx, locally administered
	MachineID string     `json:"machine_id"` // 32 hex digits, as machine-id(5)
}

// A Record is all that is stored of a VM: what was asked for, what was leased
// and what was intended, each written before the side effect it announces.
// What exists is read from the system, never from here.
type Record struct {
	ID        VMID
	Spec      Spec
	ImageID   string // Image.ID: the exact artifacts, whatever the name means later
	Lease     Lease
	HostKey   string // PEM, OpenSSH format: the VM's SSH host key
	Intent    Intent // what the VM is meant to be, recorded before anything is done about it
	Run       *Run   // the launch that is under way; nil: none to take down
	LastExit  *Exit
	Problem   *Problem // why the last start failed
	CreatedAt time.Time
}

// An Intent is what a VM is meant to be: a daemon that was killed in the middle
// of a change reads here which way to finish it.
type Intent string

const (
	IntentCreating  Intent = "creating" // not yet there: undone after a crash
	IntentStopped   Intent = "stopped"
	IntentRunning   Intent = "running"
	IntentResetting Intent = "resetting" // stopped, with a new disk: finished after a crash
	IntentDeleting  Intent = "deleting"  // finished after a crash
)

// A Run is one launch of a VM. Launch and Endpoint are recorded before the VMM
// is started, the rest of Handle after it.
type Run struct {
	Launch    string    `json:"launch"` // 16 hex digits, in the VMM's argv
	Endpoint  Endpoint  `json:"endpoint"`
	Handle    *Handle   `json:"handle,omitempty"`
	StartedAt time.Time `json:"started_at"`
	ReadyAt   time.Time `json:"ready_at,omitzero"`
}

// A Handle is what the store keeps of a VMM, enough to find it again after
// the daemon died, even when it died between the launch and this record.
type Handle struct {
	Backend     string `json:"backend"`
	Version     int    `json:"version"`     // of this handle's meaning, per backend
	Launch      string `json:"launch"`      // in the VMM's argv: finds a VMM whose PID was never recorded
	PID         int    `json:"pid"`         // 0 until known
	Started     uint64 `json:"started"`     // clock ticks since boot, field 22 of /proc/PID/stat: a PID alone is no identity
	Socket      string `json:"socket"`      // the control socket's path
	Accelerator string `json:"accelerator"` // "kvm" or "tcg"
}

// An Endpoint is where a VM's one network card ends on the host.
type Endpoint struct {
	Tap    string         `json:"tap,omitempty"`    // routed: the tap's name
	User   *UserNet       `json:"user,omitempty"`   // user: the VMM's own network stack
	Socket string         `json:"socket,omitempty"` // user: unix stream socket of a process that is the network
	Stack  string         `json:"stack,omitempty"`  // user: which one it is, for people
	Note   string         `json:"note,omitempty"`   // user: why it is not the better one, for people
	SSH    netip.AddrPort `json:"ssh"`              // where the guest program's SSH server is reached from the host

	GatewayMAC string `json:"gateway_mac,omitempty"` // routed: the tap's Ethernet address, which the guest need not ask for
	MTU        int    `json:"mtu,omitempty"`         // routed: of the guest's card, bytes; 0: its own
}

// A UserNet is the network that a VMM with a built-in stack shows its guest.
type UserNet struct {
	Subnet   netip.Prefix `json:"subnet"`
	Gateway  netip.Addr   `json:"gateway"`
	Resolver netip.Addr   `json:"resolver"` // answered by the VMM, forwarded to the host's resolver

	Isolated bool      `json:"isolated,omitempty"` // the guest reaches nothing; published ports lead in nevertheless
	Publish  []Publish `json:"publish,omitempty"`
}

// An Exit says how a VM's run ended, as far as it can be known: the exit
// status of a process that is not the daemon's child cannot.
type Exit struct {
	Cause  ExitCause `json:"cause"`
	Reboot bool      `json:"reboot,omitempty"` // the guest asked to be started again
	Detail string    `json:"detail,omitempty"` // what is known beyond the cause, escaped
	At     time.Time `json:"at"`
}

type ExitCause string

const (
	ExitGuest   ExitCause = "guest"   // the guest powered off or rebooted
	ExitKilled  ExitCause = "killed"  // by banger, on purpose
	ExitUnknown ExitCause = "unknown" // it is gone; nobody saw why
)

// A Problem is something wrong with a VM that the user can do something about.
type Problem struct {
	Message string `json:"message"`
	Remedy  string `json:"remedy,omitempty"`
}

// A VM is what users see of a VM: its record joined with what was observed.
type VM struct {
	ID    VMID  `json:"id"`
	State State `json:"state"`
	Ready bool  `json:"ready"` // exec works
	Spec
	ImageID string `json:"image_id"`
	Lease
	Accelerator string     `json:"accelerator,omitempty"`   // of the running VMM: "kvm" or "tcg"
	PID         int        `json:"pid,omitempty"`           // of the running VMM
	Stack       string     `json:"network_stack,omitempty"` // mode user, while it runs: "passt" or "qemu"
	StackNote   string     `json:"network_note,omitempty"`  // mode user, while it runs: why it is not passt, where that is installed
	OpenPorts   []OpenPort `json:"open_ports,omitempty"`    // of Publish: those that lead to it now
	Problem     *Problem   `json:"problem,omitempty"`       // error: why; running: what is broken or could not be mended
	LastExit    *Exit      `json:"last_exit,omitempty"`
	CreatedAt   time.Time  `json:"created_at"`
	StartedAt   time.Time  `json:"started_at,omitzero"`
	SerialLog   string     `json:"serial_log"`
	VMMLog      string     `json:"vmm_log"`
}

// A Digest is "sha256:" and 64 lower-case hex digits.
type Digest string

// Valid reports whether d has the form of a Digest.
func (d Digest) Valid() bool {
	const p = "sha256:"
	return len(d) == len(p)+64 && string(d[:len(p)]) == p && isHex(string(d[len(p):]))
}

// Hex returns the digits alone, the name under which an artifact is kept.
func (d Digest) Hex() string { return string(d[len("sha256:"):]) }

// An Artifact is one immutable file, known by its content.
type Artifact struct {
	Digest Digest `json:"digest"`
	Size   int64  `json:"size_bytes"` // apparent size
}

// An Image is a root file system with all that boots it. Its ID stands for
// exactly these artifacts; the name may move to another image when a bundle is
// rebuilt, and is then empty here.
type Image struct {
	ID        string    `json:"id"`   // 12 hex digits
	Name      string    `json:"name"` // "" once a newer image took the name
	Default   bool      `json:"default"`
	OS        string    `json:"os"`               // PRETTY_NAME of its os-release
	Release   string    `json:"kernel_release"`   // as uname -r says
	Rootfs    Artifact  `json:"rootfs"`           // raw ext4, no partition table
	Kernel    Artifact  `json:"kernel"`           // bzImage
	Initramfs Artifact  `json:"initramfs"`        // modules for banger-guest, without banger-guest
	Modules   Artifact  `json:"modules"`          // read-only image, mounted on /lib/modules/RELEASE
	VMLinux   Artifact  `json:"vmlinux,omitzero"` // the kernel as an ELF file; zero: its bundle has none
	CreatedAt time.Time `json:"created_at"`
	Source    string    `json:"source"` // the bundle directory it was registered from
}

// A DiskFormat is how a root disk's bytes are laid out in its file.
type DiskFormat string

const (
	FormatRaw   DiskFormat = "raw"
	FormatQCOW2 DiskFormat = "qcow2"
)

// FirstOwner and LastOwner are the users that VMMs run as when bangerd itself is
// root, one for each VM. No user has such a uid: systemd's table of UIDs calls
// them unused ("1879048192…2147483646", UIDS-GIDS).
const (
	FirstOwner = 0x70000000
	LastOwner  = 0x7ffffffe
)

// An Owner is the user that a VM's VMM runs as when bangerd itself is root. A
// nil *Owner means the daemon's own user.
type Owner struct {
	UID, GID uint32
	Groups   []uint32 // supplementary, as of /dev/kvm
}

// An Event is one numbered report of an operation under way.
type Event struct {
	N       int           `json:"n"` // from 0, without gaps, per operation
	At      time.Time     `json:"at"`
	Type    EventType     `json:"type"`
	Step    string        `json:"step,omitempty"`
	Elapsed time.Duration `json:"elapsed_ns,omitempty"` // of a step that ended
	Message string        `json:"message,omitempty"`
	Done    int64         `json:"done,omitempty"`  // bytes or items, with Total
	Total   int64         `json:"total,omitempty"` // 0: unknown
	Result  any           `json:"result,omitempty"`
	Error   *Error        `json:"error,omitempty"`
}

type EventType string

const (
	EventStep     EventType = "step"     // Step began
	EventStepDone EventType = "stepdone" // Step ended well, after Elapsed
	EventProgress EventType = "progress" // Step is at Done of Total
	EventMessage  EventType = "message"  // a line for the user
	EventDone     EventType = "done"     // the operation succeeded with Result; nothing follows
	EventFailed   EventType = "failed"   // it failed with Error; nothing follows
)

func isHex(s string) bool {
	for _, c := range s {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}
