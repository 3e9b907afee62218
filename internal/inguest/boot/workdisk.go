package boot

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"banger/internal/guestapi"
	"banger/internal/inguest/boot/seed"
)

// homeDir is where the work disk is seen, workMount where it is while it is made
// ready for that.
const (
	homeDir   = "/root"
	workMount = RunDir + "/work"
)

// mountWorkDisk mounts the disk whose file system has that UUID on root's home
// directory, and puts on it what is there the first time. "" is none. Where it
// fails, the home directory is the root disk's.
func mountWorkDisk(uuid string) error {
	if uuid == "" {
		return nil
	}
	device, super, err := findDisk(guestapi.WorkDevice, uuid)
	if err != nil {
		return err
	}
	home, err := homeDirectory()
	if err != nil {
		return err
	}
	// noinit_itable: the file is new and so reads as zeros; the kernel would write
	// 16 MiB of them for each GiB of the disk.
	if err := mount(fileSystem{device, workMount, "ext4", unix.MS_RELATIME, "noinit_itable"}); err != nil {
		return err
	}
	defer os.Remove(workMount)
	err = super.grow(workMount)
	if err != nil {
		err = fmt.Errorf("grow: %w", err)
	}
	if err == nil {
		err = seed.Fill(workMount, home)
	}
	if errors.Is(err, unix.ENOSPC) {
		err = fmt.Errorf("it is too small for what the image has in %s: %w", homeDir, err)
	}
	if err == nil {
		err = unix.Mount(workMount, home, "", unix.MS_MOVE, "")
	}
	if err != nil {
		return errors.Join(err, unix.Unmount(workMount, unix.MNT_DETACH))
	}
	return nil
}

// homeDirectory is homeDir, made where the image has none, or what it links to.
func homeDirectory() (string, error) {
	if err := os.Mkdir(homeDir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return "", err
	}
	return filepath.EvalSymlinks(homeDir)
}

// findDisk waits for a disk and returns the one whose file system has that UUID:
// it, or whatever else has it.
func findDisk(device, uuid string) (string, superblock, error) {
	want, err := parseUUID(uuid)
	if err != nil {
		return "", superblock{}, err
	}
	f, err := waitDevice(device, deviceLimit)
	if err != nil {
		return "", superblock{}, err
	}
	f.Close()
	disks, err := filepath.Glob(filepath.Join(filepath.Dir(device), "vd?"))
	if err != nil {
		return "", superblock{}, err
	}
	for _, d := range append([]string{device}, disks...) {
		f, err := os.Open(d)
		if err != nil {
			continue
		}
		sb, err := readSuper(f)
		f.Close()
		if err == nil && sb.uuid == want {
			return d, sb, nil
		}
	}
	return "", superblock{}, fmt.Errorf("no disk has the file system %s", uuid)
}

func parseUUID(s string) (u [16]byte, err error) {
	b, err := hex.DecodeString(strings.ReplaceAll(s, "-", ""))
	if err != nil || len(b) != len(u) {
		return u, fmt.Errorf("%q is no UUID", s)
	}
	return [16]byte(b), nil
}
