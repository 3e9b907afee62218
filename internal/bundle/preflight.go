package bundle

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"banger"
	"banger/internal/host"
)

// room is what a build takes at its height, bytes: the tree, the packages on
// their way into it, the kernel's modules twice, and the image. 0.9 GiB was
// seen.
const room = 3 << 29

// preflight looks for all that the build will need, before it begins, and
// returns mmdebstrap's name and version.
func (b *Builder) preflight(ctx context.Context, output string) (tool string, err error) {
	for _, c := range []host.Cmd{
		{Tool: "unshare", Args: []string{"--version"}},
		{Tool: "mmdebstrap", Args: []string{"--version"}},
		{Tool: "mke2fs", Args: []string{"-V"}},
		{Tool: "dpkg-deb", Args: []string{"--version"}},
	} {
		if _, err := b.Runner.Run(ctx, c); err != nil {
			return "", err
		}
	}
	if b.UID != 0 {
		// It takes no harmless argument: that it ran and complained is enough.
		_, err := b.Runner.Run(ctx, host.Cmd{Tool: "newuidmap"})
		if banger.CodeOf(err) == banger.HostUnready {
			return "", err
		}
		if err := b.checkSubIDs(); err != nil {
			return "", err
		}
	}
	if err := roomAt(output); err != nil {
		return "", err
	}
	out, err := b.Runner.Run(ctx, b.inside(host.Cmd{Tool: "mmdebstrap", Args: []string{"--version"}}))
	if err != nil && ctx.Err() == nil {
		return "", b.noNamespaces(err)
	}
	return strings.TrimSpace(string(out)), err
}

// noNamespaces explains why the build cannot have namespaces of its own.
func (b *Builder) noNamespaces(err error) error {
	e := banger.Errorf(banger.HostUnready, "this host grants no namespaces to build a bundle in: %w", err)
	if b.UID == 0 {
		return e.WithRemedy("run it outside of the container, or give the container CAP_SYS_ADMIN")
	}
	return e.WithRemedy("allow user namespaces (sudo sysctl user.max_user_namespaces=10000; on Ubuntu also sudo sysctl kernel.apparmor_restrict_unprivileged_userns=0), or build as root")
}

// roomAt reports whether the file system that output will lie on has room.
func roomAt(output string) error {
	dir := filepath.Dir(output)
	var st unix.Statfs_t
	err := unix.Statfs(dir, &st)
	for errors.Is(err, unix.ENOENT) && dir != "/" { // it will be made
		dir = filepath.Dir(dir)
		err = unix.Statfs(dir, &st)
	}
	if err != nil {
		return fmt.Errorf("look for room in %s: %w", dir, err)
	}
	if free := st.Bavail * uint64(st.Bsize); free < room {
		return banger.Errorf(banger.HostUnready, "%s has %d MiB free, building a bundle takes %d", dir, free>>20, room>>20).
			WithRemedy("free some space, or name a directory on another disk with --output")
	}
	return nil
}

// replaceable refuses an output that is there and is neither empty nor a
// bundle: the build would remove it.
func replaceable(output string) error {
	entries, err := os.ReadDir(output)
	if errors.Is(err, fs.ErrNotExist) || (err == nil && len(entries) == 0) {
		return nil
	}
	if err != nil {
		return banger.Errorf(banger.Exists, "output %s: %w", output, err).WithRemedy("name another directory with --output")
	}
	if _, err := os.Lstat(filepath.Join(output, banger.BundleManifest)); err != nil {
		return banger.Errorf(banger.Exists, "%s is there and is no bundle", output).WithRemedy("name another directory with --output")
	}
	return nil
}
