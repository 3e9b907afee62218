package vm

import (
	"errors"
	"io/fs"
	"path/filepath"

	"golang.org/x/sys/unix"

	"banger"
)

// clear tells a file system that is full or read-only from banger's own faults,
// whichever step met it. An error that says more than that stays as it is.
func (m *Manager) clear(err error) error {
	if err == nil || banger.CodeOf(err) != banger.Internal {
		return err
	}
	dir := filepath.Dir(m.c.Paths.Failed()) // the state directory
	if pe := (*fs.PathError)(nil); errors.As(err, &pe) {
		dir = filepath.Dir(pe.Path)
	}
	switch {
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT):
		return banger.Errorf(banger.HostUnready, "%w", err).WithRemedy("make room: df -h %s", dir)
	case errors.Is(err, unix.EROFS):
		return banger.Errorf(banger.HostUnready, "%w", err).WithRemedy("make it writable: findmnt -T %s", dir)
	}
	return err
}
