package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"syscall"
)

// diskName is one that fits into a disk's serial number, and needs no quotes.
var diskName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]{0,18}$`)

// A disk is a file system that a machine has, read-only, as /lab/NAME.
type disk struct{ name, file string }

// disk makes a disk out of a directory's content. The lab's machine
// gets a file system of Linux's: what is tested is what banger does with those, not
// with one of QEMU's.
func (i image) disk(ctx context.Context, name, dir string) (disk, error) {
	d := disk{name: name}
	if !diskName.MatchString(d.name) {
		return d, fmt.Errorf("%q is no name for a disk: at most 19 letters, digits, '.', '_' and '-'", name)
	}
	size, err := diskSize(dir)
	if err != nil {
		return d, err
	}
	file, err := os.CreateTemp(i.work, name+"-*.ext4")
	if err != nil {
		return d, err
	}
	d.file = file.Name()
	if err := file.Close(); err != nil {
		return d, err
	}
	cmd := exec.CommandContext(ctx, i.file("tools/run"), "sbin/mke2fs", "-q", "-t", "ext4", "-O", "^has_journal", "-m", "0",
		"-E", "root_owner=0:0,root_perms=0755", "-d", dir, d.file, fmt.Sprintf("%dk", size>>10))
	if out, err := cmd.CombinedOutput(); err != nil {
		return d, fmt.Errorf("make a disk of %s: %w\n%s", dir, err, out)
	}
	return d, nil
}

// diskSize returns how many bytes a disk has that holds dir.
func diskSize(dir string) (int64, error) {
	size := int64(64 << 20)
	err := filepath.WalkDir(dir, func(_ string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		st, ok := info.Sys().(*syscall.Stat_t)
		if !ok {
			return errors.New("no stat(2)")
		}
		size += st.Blocks*512 + 4096
		return nil
	})
	return size + size/8, err
}
