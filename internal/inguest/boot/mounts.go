package boot

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

type fileSystem struct {
	source, dir, kind string
	flags             uintptr
	options           string
}

// mount makes the mount point where it is missing and can be made.
func mount(fs fileSystem) error {
	err := unix.Mount(fs.source, fs.dir, fs.kind, fs.flags, fs.options)
	if errors.Is(err, unix.ENOENT) {
		if err := os.MkdirAll(fs.dir, 0o755); err != nil {
			return fmt.Errorf("make mount point: %w", err)
		}
		err = unix.Mount(fs.source, fs.dir, fs.kind, fs.flags, fs.options)
	}
	if err != nil {
		return fmt.Errorf("mount %s on %s: %w", fs.kind, fs.dir, err)
	}
	return nil
}

// enterRoot makes dir the root directory. Every path after it is the image's:
// its absolute symlinks lead where they would lead anybody there.
func enterRoot(dir string) error {
	unix.Unmount("/dev", unix.MNT_DETACH) // our own view; the new root gets its own
	if err := os.Chdir(dir); err != nil {
		return fmt.Errorf("enter new root: %w", err)
	}
	if err := unix.Mount(".", "/", "", unix.MS_MOVE, ""); err != nil {
		return fmt.Errorf("move new root: %w", err)
	}
	if err := unix.Chroot("."); err != nil {
		return fmt.Errorf("enter new root: %w", err)
	}
	return os.Chdir("/")
}

// mountKernelFiles mounts what every program expects. systemd keeps mounts that
// it finds, /run with what is in it among them.
func mountKernelFiles() error {
	const quiet = unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC
	for _, fs := range []fileSystem{
		{"proc", "/proc", "proc", quiet, ""},
		{"sysfs", "/sys", "sysfs", quiet, ""},
		{"devtmpfs", "/dev", "devtmpfs", unix.MS_NOSUID, "mode=755"},
		{"tmpfs", "/run", "tmpfs", unix.MS_NOSUID | unix.MS_NODEV, "mode=755,size=20%,nr_inodes=800k"},
		// gid 5 is the group tty: without it, write(1) and the like fail
		{"devpts", "/dev/pts", "devpts", unix.MS_NOSUID | unix.MS_NOEXEC, "gid=5,mode=620,ptmxmode=666"},
		{"tmpfs", "/dev/shm", "tmpfs", unix.MS_NOSUID | unix.MS_NODEV, "mode=1777"},
	} {
		if err := mount(fs); err != nil {
			return err
		}
	}
	// devtmpfs has none of these, and a command may run before udev.
	for name, target := range map[string]string{"fd": "/proc/self/fd", "stdin": "/proc/self/fd/0", "stdout": "/proc/self/fd/1", "stderr": "/proc/self/fd/2"} {
		os.Symlink(target, filepath.Join("/dev", name))
	}
	return os.MkdirAll(RunDir, 0o700)
}

// mountModules mounts the image of all modules where modprobe looks.
func mountModules(device, release string) error {
	if release == "" {
		return nil
	}
	return mount(fileSystem{device, filepath.Join("/lib/modules", release), "ext4", unix.MS_RDONLY | unix.MS_NOATIME | unix.MS_NODEV | unix.MS_NOSUID, ""})
}
