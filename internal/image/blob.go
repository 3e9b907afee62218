package image

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"banger"
	"banger/internal/reflink"
)

// Modes of blobs. Nobody writes to one, the daemon included.
const (
	privateMode fs.FileMode = 0o400
	sharedMode  fs.FileMode = 0o444 // by the uids of VMs when the daemon is root
)

// tempPrefix begins the names of blobs that are not hashed yet.
const tempPrefix = ".new-"

// A blobDir is the directory of blobs.
type blobDir string

func (b blobDir) path(d banger.Digest) string { return filepath.Join(string(b), d.Hex()) }
func (b blobDir) temp(hex string) string      { return filepath.Join(string(b), tempPrefix+hex) }
func (b blobDir) discard(temp string)         { os.Remove(temp) } // an error leaves what Collect removes

// remove removes a blob; one that is not there is success.
func (b blobDir) remove(d banger.Digest) error {
	if err := os.Remove(b.path(d)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove blob: %w", err)
	}
	return nil
}

// stat returns the stamp of a blob as it is now; fs.ErrNotExist if it is gone.
func (b blobDir) stat(d banger.Digest) (banger.FileStamp, error) {
	st, err := os.Lstat(b.path(d))
	if err != nil {
		return banger.FileStamp{}, err
	}
	return stampOf(st), nil
}

// accept gives the hashed file temp the name of its digest and returns its
// stamp, taken last: link and rename change the ctime.
func (b blobDir) accept(temp string, h hashed) (banger.FileStamp, error) {
	if err := os.Rename(temp, b.path(h.digest)); err != nil {
		return banger.FileStamp{}, fmt.Errorf("name blob: %w", err)
	}
	dir, err := os.Open(string(b))
	if err != nil {
		return banger.FileStamp{}, err
	}
	defer dir.Close()
	if err := dir.Sync(); err != nil {
		return banger.FileStamp{}, fmt.Errorf("sync blobs: %w", err)
	}
	now, err := b.stat(h.digest)
	if err != nil {
		return banger.FileStamp{}, err
	}
	if now.Inode != h.stamp.Inode || now.Size != h.stamp.Size || now.Mtime != h.stamp.Mtime {
		return banger.FileStamp{}, fmt.Errorf("blob %s changed after it was hashed", h.digest)
	}
	return now, nil
}

// leftovers returns the names in the directory that no digest in used keeps:
// blobs, and copies that a crash left unfinished. Anything else is not ours.
func (b blobDir) leftovers(used map[banger.Digest]bool) (blobs []banger.Digest, temps []string, err error) {
	entries, err := os.ReadDir(string(b))
	if err != nil {
		return nil, nil, fmt.Errorf("read blobs: %w", err)
	}
	for _, e := range entries {
		d := banger.Digest("sha256:" + e.Name())
		switch {
		case strings.HasPrefix(e.Name(), tempPrefix), strings.HasPrefix(e.Name(), reflink.Prefix):
			temps = append(temps, filepath.Join(string(b), e.Name()))
		case d.Valid() && !used[d]:
			blobs = append(blobs, d)
		}
	}
	return blobs, temps, nil
}

// mayLink reports whether a bundle's file is as safe under a second name as a
// copy would be: the daemon's own, written by nobody, readable by the VMMs.
func (c *Catalog) mayLink(st fs.FileInfo) bool {
	sys, ok := st.Sys().(*syscall.Stat_t)
	perm := st.Mode().Perm()
	return ok && int(sys.Uid) == os.Geteuid() && perm&0o222 == 0 && (!c.shared || perm&sharedMode == sharedMode)
}

func stampOf(st fs.FileInfo) banger.FileStamp {
	sys, ok := st.Sys().(*syscall.Stat_t)
	if !ok {
		return banger.FileStamp{} // equals no file's
	}
	return banger.FileStamp{
		Size: sys.Size, Inode: sys.Ino,
		Mtime: unix.TimespecToNsec(unix.Timespec(sys.Mtim)), Ctime: unix.TimespecToNsec(unix.Timespec(sys.Ctim)),
	}
}
