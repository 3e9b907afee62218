package vm

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"

	"banger"
)

// EndOrphans is for a daemon whose state directory was deleted: it ends the
// VMMs of which that took the directory, and with it the disk, since no later
// daemon could know them, and leaves the others to the one that will adopt
// them. Nothing is recorded, mended or started again from the first call on;
// Close is still to be called.
func (m *Manager) EndOrphans(ctx context.Context) error {
	m.stop()
	m.mu.Lock()
	lives := maps.Clone(m.lives)
	m.mu.Unlock()
	var errs []error
	for id, l := range lives {
		if _, err := os.Lstat(m.c.Paths.VMDir(id)); !errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err := m.endOrphan(ctx, id, l); err != nil {
			errs = append(errs, fmt.Errorf("end VM %s, whose directory is gone: %w", id, err))
			continue
		}
		m.forget(id, l)
	}
	return errors.Join(errs...)
}

func (m *Manager) endOrphan(ctx context.Context, id banger.VMID, l *life) error {
	h := l.proc.Handle()
	if err := l.proc.Kill(ctx); err != nil {
		return err
	}
	m.c.Log.Warn("ended a VM whose directory is gone", "vm", id, "pid", h.PID)
	return os.RemoveAll(m.c.Paths.RunVMDir(id))
}
