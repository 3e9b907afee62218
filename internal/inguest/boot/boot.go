// Package boot is the guest program as a VM's first process: it prepares the
// machine (modules, disks, identity, network), starts the SSH server inside
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
	s, err := prepare()
	if err != nil {
		fmt.Fprintf(os.Stderr, "banger-guest: cannot boot: %v\n", err)
		endMachine(s.Identity.Launch, PowerOff)
	}
	if err := handOver(s); err != nil {
		fmt.Fprintf(os.Stderr, "banger-guest: cannot hand over to the image's init: %v\n", err)
		endMachine(s.Identity.Launch, PowerOff)
	}
}

// prepare does everything up to the start of the server. What the VM can live
// without is complained about and passed over.
func prepare() (s State, err error) {
	if err := mount(fileSystem{"devtmpfs", "/dev", "devtmpfs", unix.MS_NOSUID, "mode=755"}); err != nil {
		return s, err
	}
	id, err := ReadIdentity("/" + guestapi.IdentityPath)
	if err != nil {
		return s, fmt.Errorf("read identity: %w", err)
	}
	s.Identity = id
	release, err := loadModules("/")
	if err != nil {
		return s, err
	}
	r, err := mountRoot(guestapi.RootDevice)
	if err != nil {
		return s, err
	}
	if err := enterRoot(r.dir); err != nil {
		return s, err
	}
	if r.readOnly {
		fmt.Fprintln(os.Stderr, "banger-guest: the root file system is read-only")
	}
	if err := mountKernelFiles(); err != nil {
		return s, err
	}
	if !r.readOnly {
		complain("grow the root file system", r.super.grow("/"))
	}
	complain("mount kernel modules", mountModules(guestapi.ModulesDevice, release))
	complain("set up vsock", loadVSock(release))
	if err := mountWorkDisk(id.WorkDisk); err != nil {
		s.Problem = fmt.Sprintf("its work disk is not mounted, and %s is the root disk's: %v", homeDir, err)
		complain("mount the work disk", err)
	}
	complain("apply identity", applyIdentity(id, r.readOnly))
	complain("keep /tmp", keepTmp())
	complain("set up network", setUpNetwork(id))
	return s, nil
}

// complain tells the console about err, if it is one.
func complain(what string, err error) {
	if err != nil {
		fmt.Fprintf(os.Stderr, "banger-guest: %s: %v\n", what, err)
	}
}

// handOver starts the server and becomes the image's init.
func handOver(s State) error {
	init, err := FindInit("/")
	if err != nil && !errors.Is(err, ErrNoInit) {
		return err
	}
	if err := startServer(s, init); err != nil {
		return fmt.Errorf("start SSH server: %w", err)
	}
	if init == "" {
		return smallInit(s.Identity.Launch)
	}
	// Nothing of ours is inherited: Go's descriptors close on exec.
	return unix.Exec(init, []string{init}, []string{"HOME=/", "TERM=linux", "PATH=" + searchPath})
}

const searchPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
