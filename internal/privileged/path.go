package privileged

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"

	"banger"
)

// RunDir holds a directory per uid; in it listens that uid's banger-root. All
// of it is root's.
const RunDir = "/run/banger-root"

// SocketDir is the directory of uid's banger-root, in run (RunDir).
func SocketDir(run string, uid uint32) string {
	return filepath.Join(run, strconv.FormatUint(uint64(uid), 10))
}

// SocketPath is where uid's banger-root listens.
func SocketPath(run string, uid uint32) string { return filepath.Join(SocketDir(run, uid), "socket") }

// RootOwned returns nil if path and every directory above it belong to root and
// can be changed by root alone, so that nobody else decides what lies there. A
// directory that is shared but sticky, as /tmp, counts as anybody's. Symbolic
// links are refused. The error wraps fs.ErrNotExist if path is not there, and
// is HostUnready with a remedy otherwise.
func RootOwned(path string) error {
	if !filepath.IsAbs(path) || filepath.Clean(path) != path {
		return banger.Errorf(banger.Invalid, "%q is no clean absolute path", path)
	}
	for p := path; ; p = filepath.Dir(p) {
		if err := rootOwned(p); err != nil {
			return err
		}
		if p == "/" {
			return nil
		}
	}
}

func rootOwned(p string) error {
	var st unix.Stat_t
	if err := unix.Lstat(p, &st); err != nil {
		err = &os.PathError{Op: "lstat", Path: p, Err: err}
		if errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return banger.Errorf(banger.HostUnready, "%w", err).WithRemedy("ls -ld %s", p)
	}
	why := ""
	switch {
	case st.Mode&unix.S_IFMT == unix.S_IFLNK:
		why = "is a symbolic link"
	case st.Uid != 0:
		why = fmt.Sprintf("belongs to uid %d, not to root", st.Uid)
	case st.Mode&0o022 != 0 && st.Mode&unix.S_IFMT != unix.S_IFSOCK:
		why = fmt.Sprintf("can be written by others than root (mode %#o)", st.Mode&0o7777)
	default:
		return nil
	}
	return banger.Errorf(banger.HostUnready, "%s %s: not used as root", p, why).
		WithRemedy("sudo chown root:root %s && sudo chmod go-w %s", p, p)
}
