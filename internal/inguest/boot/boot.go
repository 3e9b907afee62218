// Package boot is the guest program as a VM's first process: it prepares the
// machine (modules, root disk, identity, network), starts the SSH server inside
// the new root, hands over to the image's own init or stays as a small one, and
// in the end says on the console how the machine ended. It is silent unless
// something is wrong. It serves nothing itself.
package boot

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"banger/internal/guestapi"
)

// Init is /init of the initramfs. It returns only by ending the machine.
func Init() {
	id, err := prepare()
	if err != nil {
		fmt.Fprintf(os.Stderr, "banger-guest: cannot boot: %v\n", err)
		endMachine(id.Launch, PowerOff)
	}
	if err := handOver(id); err != nil {
		fmt.Fprintf(os.Stderr, "banger-guest: cannot hand over to the image's init: %v\n", err)
		endMachine(id.Launch, PowerOff)
	}
}

// prepare does everything up to the start of the server. What the VM can live
// without is complained about and passed over.
func prepare() (guestapi.Identity, error) {
	if err := mount(fileSystem{"devtmpfs", "/dev", "devtmpfs", unix.MS_NOSUID, "mode=755"}); err != nil {
		return guestapi.Identity{}, err
	}
	id, err := ReadIdentity("/" + guestapi.IdentityPath)
	if err != nil {
		return guestapi.Identity{}, fmt.Errorf("read identity: %w", err)
	}
	release, err := loadModules("/")
	if err != nil {
		return id, err
	}
	r, err := mountRoot(guestapi.RootDevice)
	if err != nil {
		return id, err
	}
	if err := enterRoot(r.dir); err != nil {
		return id, err
	}
	if r.readOnly {
		fmt.Fprintln(os.Stderr, "banger-guest: the root file system is read-only")
	}
	if err := mountKernelFiles(); err != nil {
		return id, err
	}
	complain("grow the root file system", r.grow())
	complain("mount kernel modules", mountModules(guestapi.ModulesDevice, release))
	complain("apply identity", applyIdentity(id, r.readOnly))
	complain("keep /tmp", keepTmp())
	if err := setUpNetwork(id); err != nil {
		complain("set up network", err)
	}
	return id, nil
}

// complain tells the console about err, if it is one.
func complain(what string, err error) {
	if err != nil {
		fmt.Fprintf(os.Stderr, "banger-guest: %s: %v\n", what, err)
	}
}

// handOver starts the server and becomes the image's init.
func handOver(id guestapi.Identity) error {
	init, err := FindInit("/")
	if err != nil && !errors.Is(err, ErrNoInit) {
		return err
	}
	if err := startServer(id, init); err != nil {
		return fmt.Errorf("start SSH server: %w", err)
	}
	if init == "" {
		return smallInit(id.Launch)
	}
	// Nothing of ours is inherited: Go's descriptors close on exec.
	return unix.Exec(init, []string{init}, []string{"HOME=/", "TERM=linux", "PATH=" + searchPath})
}

const searchPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
