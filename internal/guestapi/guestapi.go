// Package guestapi is what the host's side and the guest program agree on: the
// identity file, the port, banger's own SSH requests and the exit marker on the
// serial console. It imports nothing that knows a side: both import it, neither the
// other.
package guestapi

import (
	"fmt"
	"net/netip"
	"strings"

	"banger/internal/rawtext"
)

// Version is the number of this agreement. A daemon talks to guest programs of
// this number and the one before; a guest program refuses an identity of
// another number, since it is always joined by the daemon that wrote it.
const Version = 1

// Port is the TCP port of the guest program's SSH server: uncommon, below the
// ephemeral range, so that a later openssh-server finds 22 free. Where the VM has a
// vsock it is the port there, too, and listened on first.
const Port = 5122

// IdentityPath is where the identity lies in the initramfs: in an archive of
// its own that comes before all others, under a name that no other archive has.
const IdentityPath = "banger/identity.json"

// RootDevice, ModulesDevice and WorkDevice are the disks in the order in which
// every backend attaches them. Not every VM has the last.
const (
	RootDevice    = "/dev/vda"
	ModulesDevice = "/dev/vdb"
	WorkDevice    = "/dev/vdc"
)

// An Identity is all that makes a VM this VM. It holds secrets: it travels in a
// file of mode 0600 that is unlinked once the VMM has read it, never on the
// kernel's command line.
type Identity struct {
	Version        int          `json:"version"`
	VM             string       `json:"vm"`       // VMID
	Launch         string       `json:"launch"`   // of this run; in the exit marker
	Hostname       string       `json:"hostname"` // an RFC 1123 label
	MachineID      string       `json:"machine_id"`
	MAC            string       `json:"mac"`     // of eth0
	Address        netip.Prefix `json:"address"` // a /32: the gateway is on-link, every packet goes through it
	Gateway        netip.Addr   `json:"gateway"`
	GatewayMAC     string       `json:"gateway_mac,omitempty"` // permanent neighbour entry, where the host may not answer ARP
	MTU            int          `json:"mtu,omitempty"`         // of eth0, bytes; 0: as it is
	Resolvers      []netip.Addr `json:"resolvers"`
	HostKey        string       `json:"host_key"`            // PEM, OpenSSH format, ed25519
	AuthorizedKeys []string     `json:"authorized_keys"`     // one public key each, authorized_keys format
	WorkDisk       string       `json:"work_disk,omitempty"` // UUID of the file system that is mounted on /root; "": none
}

// ModulesListPath lies in the base initramfs: one path per line, relative to
// the archive's root, in the order in which the modules are loaded.
const ModulesListPath = "banger/modules"

// ReleasePath lies in the base initramfs: the kernel release, as uname -r says.
const ReleasePath = "banger/release"

// ExecRequest is the SSH channel request (type "session") by which an argv
// reaches the guest as a vector, unsplit. Its payload is an ssh.Marshal'ed
// struct{JSON string} of an Exec. It is answered; exit-status or exit-signal
// follow as for "exec".
const ExecRequest = "exec@banger"

// What a command may have: MaxCommand bounds an Exec as JSON, bytes, and MaxEnv its
// variables. An SSH packet holds 256 KiB, and a longer one breaks the connection
// with all other commands on it (seen with x/crypto/ssh).
const (
	MaxCommand = 200 << 10
	MaxEnv     = 1024
)

// ValidVariable reports whether kv is NAME=VALUE as a process can be given it. The
// name need not be one that a shell can refer to.
func ValidVariable(kv string) bool {
	name, _, ok := strings.Cut(kv, "=")
	return ok && name != "" && !strings.Contains(kv, "\x00")
}

// An Exec is a command to run in the guest.
type Exec struct {
	Argv rawtext.List   `json:"argv"`           // not empty; argv[0] is looked up in the PATH of Env
	Env  rawtext.List   `json:"env,omitempty"`  // K=V, on top of the login environment
	Dir  rawtext.String `json:"dir,omitempty"`  // "": the home directory
	User rawtext.String `json:"user,omitempty"` // "": the login name of the connection; only root may name another
}

// CopyRequest is the SSH channel request (type "session") that moves files. Its
// payload is an ssh.Marshal'ed struct{JSON string} of a Copy. The stream is that
// of internal/filetree, compressed, on the channel; on its stderr and as its
// exit-status comes what that package has for them.
const CopyRequest = "copy@banger"

// A Copy says what is moved. The guest program does it itself, so that an image
// needs no tar.
type Copy struct {
	Path    rawtext.String `json:"path"`              // in the guest; relative: to the home directory; ~ is that, too
	Out     bool           `json:"out,omitempty"`     // from the guest
	Name    rawtext.String `json:"name"`              // Out: of the stream's top; else its name in Path, where that is a directory; "." is none
	Archive bool           `json:"archive,omitempty"` // the stream is somebody's own: all of it goes below Path
}

// StatusRequest is a global SSH request; the reply's payload is a Status as JSON.
const StatusRequest = "status@banger"

// WaitBootedRequest is a global SSH request that is answered, as
// StatusRequest is, once Booted or Failed is true.
const WaitBootedRequest = "wait-booted@banger"

// ShutdownRequest is a global SSH request: power off in the image's own way
// (systemd, or a plain init), payload "poweroff" or "reboot". It is answered at once.
const ShutdownRequest = "shutdown@banger"

// A Status is what the guest program knows of its machine.
type Status struct {
	Version int    `json:"version"`
	Launch  string `json:"launch"`
	Booted  bool   `json:"booted"`            // systemd says running or degraded; with another init the same as ready
	System  string `json:"system"`            // systemctl is-system-running, or "" without systemd
	Uptime  int64  `json:"uptime_ms"`         // CLOCK_BOOTTIME
	ReadyAt int64  `json:"ready_at_ms"`       // CLOCK_BOOTTIME when the SSH server listened
	Problem string `json:"problem,omitempty"` // what the machine should have and does without, one line
}

// SystemStopping is a Status's System once the image's init is going down.
const SystemStopping = "stopping"

// ExitMarker is the line that the guest program writes on the console as the
// last thing before it ends the machine; what is "poweroff" or "reboot". The
// launch ID keeps it apart from those of earlier runs in the same log. The
// guest owns its console: the marker says what the guest claims, no more.
func ExitMarker(launch, what string) string {
	return fmt.Sprintf("banger-guest: exit %s launch=%s", what, launch)
}

// ParseExitMarker finds the last marker of this launch in console output, and
// returns "poweroff", "reboot" or "".
func ParseExitMarker(console, launch string) string {
	for _, what := range []string{"poweroff", "reboot"} {
		if strings.Contains(console, ExitMarker(launch, what)) {
			return what
		}
	}
	return ""
}
