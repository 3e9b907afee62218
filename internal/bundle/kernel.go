package bundle

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"banger"
	"banger/internal/host"
	"banger/internal/vmlinux"
)

// A kernelPackage is an unpacked kernel package.
type kernelPackage struct {
	release  string            // as uname -r says
	modules  string            // .../lib/modules/RELEASE, with modules.dep and its kin
	packages map[string]string // its name and version
}

// unpackKernel unpacks the kernel package that bootstrap left in w.kernel,
// moves the bzImage into the bundle and makes the modules' indexes.
func (b *Builder) unpackKernel(ctx context.Context, w *workspace) (kernelPackage, error) {
	debs, err := filepath.Glob(filepath.Join(escapeGlob(w.kernel), "*.deb"))
	if err != nil || len(debs) != 1 {
		return kernelPackage{}, banger.Errorf(banger.Internal, "unpack kernel: %d packages were downloaded, want one", len(debs))
	}
	fields, err := b.Runner.Run(ctx, host.Cmd{Tool: "dpkg-deb", Args: []string{"-W", "--showformat=${Package} ${Version}", debs[0]}})
	if err != nil {
		return kernelPackage{}, fmt.Errorf("read kernel package: %w", err)
	}
	name, version, _ := strings.Cut(string(fields), " ")
	release := strings.TrimPrefix(name, "linux-image-")
	if !plain.MatchString(release) || release == name {
		return kernelPackage{}, banger.Errorf(banger.Internal, "unpack kernel: unexpected package name %q", name)
	}
	root := filepath.Join(w.kernel, "root")
	if _, err := b.Runner.Run(ctx, b.inside(host.Cmd{Tool: "dpkg-deb", Args: []string{"-x", debs[0], root}})); err != nil {
		return kernelPackage{}, fmt.Errorf("unpack kernel: %w", err)
	}
	// The tree's own depmod, not the host's: the modules are read by its kmod.
	moved := filepath.Join(w.tree, "lib/modules")
	if err := errors.Join(mkdirOpen(moved), os.Rename(filepath.Join(root, "lib/modules", release), filepath.Join(moved, release))); err != nil {
		return kernelPackage{}, fmt.Errorf("move modules: %w", err)
	}
	depmod := []string{w.tree, "/bin/sh", "-c", `umask 022 && exec /sbin/depmod "$1"`, "sh", release}
	if _, err := b.Runner.Run(ctx, b.inside(host.Cmd{Tool: "chroot", Args: depmod})); err != nil {
		return kernelPackage{}, fmt.Errorf("index modules: %w", err)
	}
	modules := filepath.Join(w.kernel, release)
	// An empty directory stays: where a VM mounts the modules image.
	if err := errors.Join(os.Rename(filepath.Join(moved, release), modules), mkdirOpen(filepath.Join(moved, release))); err != nil {
		return kernelPackage{}, fmt.Errorf("move modules: %w", err)
	}
	if err := os.Rename(filepath.Join(root, "boot/vmlinuz-"+release), filepath.Join(w.bundle, fileKernel)); err != nil {
		return kernelPackage{}, fmt.Errorf("take kernel: %w", err)
	}
	return kernelPackage{release: release, modules: modules, packages: map[string]string{name: version}}, nil
}

// extractKernel takes the ELF kernel, which Firecracker boots, out of the bzImage.
func extractKernel(w *workspace) error {
	f, err := os.Open(filepath.Join(w.bundle, fileKernel))
	if err != nil {
		return err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return err
	}
	return vmlinux.Extract(filepath.Join(w.bundle, fileVMLinux), f, st.Size())
}

// escapeGlob makes a path safe to begin a glob pattern with.
func escapeGlob(path string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(path)
}

// mkdirOpen makes a directory that all may enter, whatever the umask.
func mkdirOpen(dir string) error {
	if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return os.Chmod(dir, 0o755)
}
