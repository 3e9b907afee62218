package dmsnap

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"banger"
)

// devices are this installation's mapper devices by VM, as /sys names them: all that
// the kernel has of its disks. To look needs no privilege.
func (s *Strategy) devices() (map[banger.VMID][]string, error) {
	prefix := fmt.Sprintf("BANGER-%d-%s-", os.Geteuid(), s.c.Tag) // of package blockdev
	files, err := filepath.Glob(filepath.Join(s.c.Sys, "block/dm-*/dm/uuid"))
	found := map[banger.VMID][]string{}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			continue // it went meanwhile
		}
		rest, ours := strings.CutPrefix(strings.TrimSpace(string(b)), prefix)
		id, _, _ := strings.Cut(rest, "-") // -origin, below the device itself
		if ours && banger.VMID(id).Valid() {
			name, _ := os.ReadFile(filepath.Join(filepath.Dir(f), "name"))
			found[banger.VMID(id)] = append(found[banger.VMID(id)], strings.TrimSpace(string(name)))
		}
	}
	return found, err
}

// left are the devices of VMs that have no run, by VM.
func (s *Strategy) left(ctx context.Context) (map[banger.VMID][]string, error) {
	found, err := s.devices()
	if err != nil || len(found) == 0 {
		return nil, err
	}
	wanted, err := s.c.Wanted(ctx)
	if err != nil {
		return nil, fmt.Errorf("read which disks are wanted: %w", err)
	}
	for _, id := range wanted {
		delete(found, id)
	}
	return found, nil
}

// Pending are the names of the devices that nobody wants and that are there still:
// of VMs that were stopped or deleted while banger-root did not run.
func (s *Strategy) Pending(ctx context.Context) ([]string, error) {
	left, err := s.left(ctx)
	var all []string
	for _, names := range left {
		all = append(all, names...)
	}
	slices.Sort(all)
	return all, err
}

// Tend is called from time to time. It has removed what is Pending, once banger-root
// can be had. What somebody has open stays until the next time.
func (s *Strategy) Tend(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock() // nobody attaches between the look at the records and the end
	left, err := s.left(ctx)
	for id, names := range left {
		err = errors.Join(err, s.take(ctx, id))
		if absent(err) {
			return nil
		}
		if err == nil {
			s.c.Log.Info("removed what was left of a disk", "vm", id, "devices", names)
		}
	}
	return err
}

func (s *Strategy) take(ctx context.Context, id banger.VMID) error {
	return s.ask(ctx, func(r Root) error { return r.DetachDisk(ctx, s.c.Tag, id) })
}

// absent reports whether banger-root is not to be had.
func absent(err error) bool { return banger.CodeOf(err) == banger.NeedsRoot }
