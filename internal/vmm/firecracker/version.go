package firecracker

import (
	"fmt"
	"strings"

	"banger"
	"banger/internal/host"
)

// A release is a version of Firecracker.
type release struct{ major, minor, patch int }

// What is known of Firecracker's releases; docs/backends.md has the table.
var (
	oldest = release{1, 12, 0} // older ones drop the guest's power button (i8042.nopnp) and were not tried
	newest = release{1, 17, 0} // of which anything is known
	// Without the fix of the virtio devices' initialisation a guest can make the
	// VMM write outside of its memory: in 1.14.4, 1.15.1 and all since 1.16.
	secure  = release{1, 15, 1}
	bzImage = release{1, 17, 0} // boots one
)

func (r release) String() string { return fmt.Sprintf("%d.%d.%d", r.major, r.minor, r.patch) }

func (r release) before(o release) bool {
	if r.major != o.major {
		return r.major < o.major
	}
	if r.minor != o.minor {
		return r.minor < o.minor
	}
	return r.patch < o.patch
}

// parseVersion reads the first line of firecracker --version: "Firecracker v1.12.1".
func parseVersion(out string) (release, error) {
	line, _, _ := strings.Cut(out, "\n")
	var r release
	if n, err := fmt.Sscanf(line, "Firecracker v%d.%d.%d", &r.major, &r.minor, &r.patch); n != 3 || err != nil || r.major < 0 || r.minor < 0 || r.patch < 0 {
		return release{}, banger.Errorf(banger.HostUnready, "firecracker --version says %q, which is no version of it", host.Escape(line)).
			WithRemedy("put a release of Firecracker there: %s", whence)
	}
	if r.before(oldest) {
		return r, banger.Errorf(banger.HostUnready, "Firecracker %s is too old: %d.%d is the oldest that banger drives", r, oldest.major, oldest.minor).
			WithRemedy("install a newer one: %s", whence)
	}
	return r, nil
}

// warning says what is wrong with a version that is accepted.
func (r release) warning() string {
	fixed := !r.before(secure) || r.minor == 14 && r.patch >= 4
	switch {
	case !fixed:
		return fmt.Sprintf("Firecracker %s lacks the fix by which a guest cannot make the VMM write outside of its memory: use %s or newer", r, secure)
	case r.major == 1 && r.minor == 16 && r.patch < 2:
		return fmt.Sprintf("Firecracker %s can hang connections to the guest over vsock, so that VMs have none and are reached by their network alone: use 1.16.2 or newer", r)
	case r.major != newest.major || r.minor > newest.minor:
		return fmt.Sprintf("Firecracker %s is newer than any that banger knows (%d.%d)", r, newest.major, newest.minor)
	}
	return ""
}

// whence is where Firecracker comes from: no distribution's package has it.
const whence = "https://github.com/firecracker-microvm/firecracker/releases; put it into your PATH as firecracker, or set BANGER_FIRECRACKER to its path, then banger daemon restart"
