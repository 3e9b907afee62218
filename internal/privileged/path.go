package privileged

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"banger"
)

// RunDir holds a directory per uid; in it listens that uid's banger-root. All
// of it is root's.
const RunDir = "/run/banger-root"

// SocketDir is the directory of uid's banger-root.
func SocketDir(uid uint32) string { return fmt.Sprintf("%s/%d", RunDir, uid) }

// SocketPath is where uid's banger-root listens.
func SocketPath(uid uint32) string { return SocketDir(uid) + "/socket" }

// RootOwned returns nil if path and every directory above it belong to root and
// can be changed by root alone, so that nobody else decides what lies there: a
// directory that is shared but sticky, as /tmp, counts as anybody's, and so does
// a symbolic link. path is absolute and clean. The error wraps fs.ErrNotExist if
// it is not there, and is HostUnready with a remedy otherwise.
func RootOwned(path string) error {
	var st unix.Stat_t
	err := unix.Lstat(path, &st)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return &os.PathError{Op: "lstat", Path: path, Err: err}
	case err != nil:
	case !filepath.IsAbs(path) || filepath.Clean(path) != path:
		err = errors.New("no clean absolute path")
	case st.Mode&unix.S_IFMT == unix.S_IFLNK:
		err = errors.New("a symbolic link")
	case st.Uid != 0:
		err = fmt.Errorf("it belongs to uid %d, not to root", st.Uid)
	case st.Mode&0o022 != 0:
		err = fmt.Errorf("others than root can write it (mode %#o)", st.Mode&0o7777)
	case path == "/":
		return nil
	default:
		return RootOwned(filepath.Dir(path))
	}
	return banger.Errorf(banger.HostUnready, "%s is not used as root: %w", path, err).
		WithRemedy("see who may change it: ls -ld %s; then: sudo chown root:root %s && sudo chmod go-w %s", path, path, path)
}
