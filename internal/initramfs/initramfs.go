// Package initramfs makes the initramfs of a VM out of three archives: the VM's
// identity, the guest program as /init, and the bundle's base with the modules
// that the guest program loads. It knows the format and the names in it, not
// what an identity says.
package initramfs

import (
	"fmt"
	"io"
	"os"
	"path"
	"strings"

	"github.com/klauspost/compress/zstd"
)

// Names in the archive. Those that the guest program reads are guestapi's too:
// a test compares them.
const (
	identityPath    = "banger/identity.json"
	modulesListPath = "banger/modules"
	releasePath     = "banger/release"
	moduleDir       = "lib/modules"
	initPath        = "init"
)

// BootModules are what the guest program needs to find its disks and its
// network: on QEMU's microvm and on Firecracker alike all devices are
// virtio-mmio. ext4, for the root disk and for the image of all other modules,
// cgroup2, devpts and tmpfs are built into Debian's cloud kernel.
func BootModules() []string {
	return []string{"virtio_mmio", "virtio_blk", "virtio_net"}
}

// panicModule tells the VMM of the kernel's panic. A kernel that has none reboots
// instead.
const panicModule = "pvpanic_mmio"

// A Module is a kernel module that goes into the base initramfs.
type Module struct {
	Name string // its file's base name, as in "virtio_net.ko"
	Path string // where it is read from, may be compressed (.gz, .zst)
}

// Base writes a bundle's base initramfs: the modules, decompressed, the list
// that says in which order they are loaded, and the kernel release, as one
// zstd-compressed archive. Equal input makes equal bytes.
func Base(w io.Writer, modules []Module, release string) error {
	// One block at a time: the output must not depend on the number of CPUs.
	z, err := zstd.NewWriter(w, zstd.WithEncoderLevel(zstd.SpeedBestCompression), zstd.WithEncoderConcurrency(1))
	if err != nil {
		return fmt.Errorf("write base initramfs: %w", err)
	}
	defer z.Close()
	a := newArchive(z)
	var list strings.Builder
	for _, m := range modules {
		content, err := readModule(m.Path)
		if err != nil {
			return fmt.Errorf("read kernel module: %w", err)
		}
		name := path.Join(moduleDir, path.Base(m.Name))
		fmt.Fprintln(&list, name)
		a.bytes(name, 0o600, content)
	}
	a.bytes(modulesListPath, 0o600, []byte(list.String()))
	a.bytes(releasePath, 0o600, []byte(release+"\n"))
	if err := a.close(); err != nil {
		return fmt.Errorf("write base initramfs: %w", err)
	}
	if err := z.Close(); err != nil {
		return fmt.Errorf("write base initramfs: %w", err)
	}
	return nil
}

// BaseFromTree writes the base initramfs for a kernel whose /lib/modules/RELEASE
// is dir: BootModules and what they depend on, less what is built in; and what
// tells of a panic, if the kernel has that.
func BaseFromTree(w io.Writer, dir, release string) error {
	dep, err := os.ReadFile(path.Join(dir, "modules.dep"))
	if err != nil {
		return fmt.Errorf("read module dependencies: %w", err)
	}
	builtin, err := os.ReadFile(path.Join(dir, "modules.builtin"))
	if err != nil {
		return fmt.Errorf("read list of built-in modules: %w", err)
	}
	files, err := LoadOrder(string(dep), string(builtin), append(BootModules(), panicModule))
	if err != nil {
		if files, err = LoadOrder(string(dep), string(builtin), BootModules()); err != nil {
			return err
		}
	}
	var modules []Module
	for _, f := range files {
		modules = append(modules, Module{Name: plainName(f), Path: path.Join(dir, f)})
	}
	return Base(w, modules, release)
}

// Join writes the initramfs of one start of a VM. The identity comes first and
// uncompressed: an archive behind an lz4-compressed one is silently ignored by
// the kernel. The guest program is the running banger's, not the bundle's, so
// that a rebuild is never stale. base is copied as it is.
func Join(w io.Writer, identity []byte, guest io.ReadSeeker, base io.Reader) error {
	size, err := guest.Seek(0, io.SeekEnd)
	if err == nil {
		_, err = guest.Seek(0, io.SeekStart)
	}
	if err != nil {
		return fmt.Errorf("measure guest program: %w", err)
	}
	a := newArchive(w)
	a.bytes(identityPath, 0o600, identity)
	if err := a.close(); err != nil {
		return fmt.Errorf("write identity archive: %w", err)
	}
	a = newArchive(w)
	a.file(initPath, 0o755, size, guest)
	if err := a.close(); err != nil {
		return fmt.Errorf("write guest program's archive: %w", err)
	}
	if _, err := io.Copy(w, base); err != nil {
		return fmt.Errorf("append base initramfs: %w", err)
	}
	return nil
}
