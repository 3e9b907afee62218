package layout

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"banger"
)

// Modes of the directories. A root daemon's VMMs run as users of their own:
// they pass through to what is theirs and can list nothing.
const (
	private fs.FileMode = 0o700
	passage fs.FileMode = 0o711
)

// Prepare makes the state and run directories, private to the user. What is
// there already must be a real directory of the user's own that nobody else
// can write; its mode is tightened. As root it also checks that another user
// can get through to the VMs' directories. The directory of a BANGER_SOCKET is
// made where there is none; one that is there is the user's choice.
func (l Layout) Prepare() error {
	open := private
	if l.root {
		open = passage
	}
	// Before anything is made that would be of no use.
	if err := l.passable(filepath.Dir(l.State), filepath.Dir(l.Run)); err != nil {
		return err
	}
	for _, d := range []struct {
		path string
		mode fs.FileMode
	}{
		{l.State, open}, {l.Blobs(), open}, {l.VMs(), open}, {l.Failed(), private},
		{l.Run, open}, {l.RunVMs(), open},
	} {
		if err := prepare(d.path, d.mode); err != nil {
			return err
		}
	}
	if d := filepath.Dir(l.Socket()); d != l.Run {
		if err := makeAll(d, private); err != nil {
			return unmade(d, err)
		}
	}
	return l.passable(l.State, l.Run)
}

// passable says of a root daemon's directories which one would shut VMMs out.
func (l Layout) passable(dirs ...string) error {
	for _, d := range dirs {
		if on := closedTo(d); l.root && on != "" {
			return banger.Errorf(banger.HostUnready, "a VM runs as a user of its own, and %s on the way to %s lets no other user in", on, d).
				WithRemedy("set BANGER_STATE_DIR and BANGER_RUN_DIR to directories that every user may pass, or: chmod o+x %s", on)
		}
	}
	return nil
}

// Check says why the state directory, if there is one, is not to be trusted: by
// clients, too, which find the daemon there.
func (l Layout) Check() error {
	fi, err := os.Lstat(l.State)
	if err != nil {
		return nil // none, or not ours to look at: whoever needs it will tell
	}
	return trusted(l.State, fi)
}

func prepare(dir string, mode fs.FileMode) error {
	// parents as the XDG specification wants them; root's are the host's
	parents := private
	if os.Geteuid() == 0 {
		parents = 0o755
	}
	if err := makeAll(filepath.Dir(dir), parents); err != nil {
		return unmade(dir, err)
	}
	if err := os.Mkdir(dir, mode); err != nil && !errors.Is(err, fs.ErrExist) {
		return unmade(dir, err)
	}
	fi, err := os.Lstat(dir)
	if err != nil {
		return unmade(dir, err)
	}
	if err := trusted(dir, fi); err != nil {
		return err
	}
	if fi.Mode().Perm() == mode {
		return nil
	}
	if err := os.Chmod(dir, mode); err != nil { // an old one, or a strange umask
		return unmade(dir, err)
	}
	return nil
}

// makeAll is os.MkdirAll with exactly this mode for what it makes: a umask of
// 077, common for root, would shut VMMs out.
func makeAll(dir string, mode fs.FileMode) error {
	if _, err := os.Stat(dir); err == nil || !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := makeAll(filepath.Dir(dir), mode); err != nil {
		return err
	}
	if err := os.Mkdir(dir, mode); err != nil {
		if errors.Is(err, fs.ErrExist) { // made by another meanwhile
			return nil
		}
		return err
	}
	return os.Chmod(dir, mode)
}

// trusted says why dir cannot hold keys and sockets.
func trusted(dir string, fi fs.FileInfo) error {
	switch {
	case fi.Mode()&fs.ModeSymlink != 0:
		return banger.Errorf(banger.HostUnready, "%s is a symbolic link", dir).
			WithRemedy("set BANGER_STATE_DIR or BANGER_RUN_DIR to the directory itself")
	case !fi.IsDir():
		return banger.Errorf(banger.HostUnready, "%s is not a directory", dir).
			WithRemedy("mv %s %s.old", dir, dir)
	case ownerOf(fi) != os.Geteuid():
		return banger.Errorf(banger.HostUnready, "%s belongs to user %d, not to you (user %d)", dir, ownerOf(fi), os.Geteuid()).
			WithRemedy("set BANGER_STATE_DIR and BANGER_RUN_DIR to directories of your own")
	case fi.Mode().Perm()&0o700 != 0o700: // somebody meant it
		return banger.Errorf(banger.HostUnready, "%s does not let its owner in, or write (mode %04o)", dir, fi.Mode().Perm()).
			WithRemedy("chmod u+rwx %s", dir)
	case fi.Mode().Perm()&0o022 != 0:
		return banger.Errorf(banger.HostUnready, "%s can be written by other users (mode %04o)", dir, fi.Mode().Perm()).
			WithRemedy("chmod go-w %s", dir)
	}
	return nil
}

// closedTo returns the first directory from / to dir that users other than its
// owner and group cannot enter, "" if there is none. Directories that do not
// exist yet do not count: Prepare makes them.
func closedTo(dir string) string {
	at, closed := dir, ""
	for {
		fi, err := os.Stat(at)
		if err == nil && fi.Mode().Perm()&0o001 == 0 {
			closed = at
		}
		if at == "/" {
			return closed
		}
		at = filepath.Dir(at)
	}
}

func unmade(dir string, err error) error {
	e := banger.Errorf(banger.HostUnready, "make directory %s: %w", dir, err)
	switch {
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return e.WithRemedy("df -h %s", existing(dir))
	case errors.Is(err, syscall.ENOTDIR):
		return e.WithRemedy("ls -ld %s", existing(dir))
	}
	return e.WithRemedy("set BANGER_STATE_DIR and BANGER_RUN_DIR to directories that you can write")
}

// existing is the nearest directory above dir that is there.
func existing(dir string) string {
	for dir != "/" {
		dir = filepath.Dir(dir)
		if _, err := os.Stat(dir); err == nil {
			break
		}
	}
	return dir
}

func ownerOf(fi fs.FileInfo) int {
	st, ok := fi.Sys().(*syscall.Stat_t)
	if !ok {
		panic(fmt.Sprintf("no owner of %s", fi.Name())) // Linux always has it
	}
	return int(st.Uid)
}
