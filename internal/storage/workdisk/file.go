package workdisk

import (
	"errors"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"banger"
	"banger/internal/storage"
	"banger/internal/storage/diskfile"
)

func path(d storage.Disk) string { return filepath.Join(d.Dir, fileName) }

func open(d storage.Disk, flags int) (*os.File, error) {
	return diskfile.OpenOwn(path(d), flags, d)
}

// broken says what is wrong with a disk that should be there.
func broken(d storage.Disk, err error) error {
	code, what := banger.Internal, "cannot be used"
	if errors.Is(err, unix.ENOENT) {
		code, what = banger.NotFound, "is gone"
	}
	return banger.Errorf(code, "the work disk of VM %s %s: %w", d.VM, what, err).
		WithRemedy("put %s back, or delete the VM: banger rm %s", path(d), d.VM)
}

// full is diskfile.Full, of a file that may also be larger than its file system
// can have one.
func full(dir string, err error) error {
	if errors.Is(err, unix.EFBIG) {
		return banger.Errorf(banger.Invalid, "the file system of %s has no files of that size: %w", dir, err).
			WithRemedy("ask for less, such as --work-disk 100GiB: it can grow later")
	}
	return diskfile.Full(dir, err)
}
