package boot

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"

	"github.com/mdlayher/vsock"
	"golang.org/x/sys/unix"
)

// vsockDevice is a socket device's number on a virtio bus (virtio 1.2, 5.10).
const vsockDevice = "0x0013"

// vsockModules are what a kernel like Debian's has of the driver, in the order in
// which they are loaded; others have it built in.
var vsockModules = []string{"vsock", "vmw_vsock_virtio_transport_common", "vmw_vsock_virtio_transport"}

// hasVSock reports whether this machine has a socket device, in a sysfs.
func hasVSock(sys string) bool {
	files, _ := filepath.Glob(filepath.Join(sys, "bus/virtio/devices/*/device")) // of a good pattern
	for _, f := range files {
		if b, err := os.ReadFile(f); err == nil && string(bytes.TrimSpace(b)) == vsockDevice {
			return true
		}
	}
	return false
}

// loadVSock loads the driver for a socket device, where there is one, from all the
// kernel's modules: the base initramfs has what every VM needs. A file that is not
// there is built in, or missed by ListenVSock.
func loadVSock(release string) error {
	if !hasVSock("/sys") {
		return nil
	}
	for _, name := range vsockModules {
		file := filepath.Join("/lib/modules", release, "kernel/net/vmw_vsock", name+".ko")
		err := loadModule(file)
		if errors.Is(err, fs.ErrNotExist) {
			err = loadPacked(file + ".xz")
		}
		if err != nil && !errors.Is(err, fs.ErrExist) && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("load kernel module %s: %w", name, err)
		}
	}
	return nil
}

// loadPacked loads a module that the kernel unpacks (MODULE_INIT_COMPRESSED_FILE).
func loadPacked(file string) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	return unix.FinitModule(int(f.Fd()), "", 4)
}

// ListenVSock listens where the host reaches this machine without its network; nil
// where the machine has no vsock.
func ListenVSock(port uint32) (net.Listener, error) {
	if !hasVSock("/sys") {
		return nil, nil
	}
	l, err := vsock.ListenContextID(unix.VMADDR_CID_ANY, port, nil)
	if err != nil { // not a nil *vsock.Listener
		return nil, err
	}
	return l, nil
}
