package boot

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
)

// ErrNoInit is an image without any init program.
var ErrNoInit = errors.New("the image has no init")

// FindInit returns the init of the image whose root is root, as a path inside
// it, symlinks not resolved. "Inside" is taken literally: an absolute symlink
// (/sbin/init -> /lib/systemd/systemd) leads from root, not from our own /.
func FindInit(root string) (string, error) {
	for _, name := range []string{"/sbin/init", "/lib/systemd/systemd", "/usr/lib/systemd/systemd", "/etc/init", "/bin/init"} {
		file, err := resolve(root, name)
		if err != nil {
			continue
		}
		st, err := os.Lstat(filepath.Join(root, file))
		if err == nil && st.Mode().IsRegular() && st.Mode()&0o111 != 0 {
			return name, nil
		}
	}
	return "", ErrNoInit
}

// maxLinks is the kernel's limit.
const maxLinks = 40

// resolve follows the symlinks in name as a process with that root would, and
// returns a path without any.
func resolve(root, name string) (string, error) {
	links := 0
	done, rest := "/", strings.Split(name, "/")
	for len(rest) > 0 {
		part := rest[0]
		rest = rest[1:]
		if part == ".." {
			done = filepath.Dir(done)
			continue
		}
		next := filepath.Join(done, part)
		target, err := os.Readlink(filepath.Join(root, next))
		if err != nil { // not a link; whether it is there is found out in the end
			done = next
			continue
		}
		if links++; links > maxLinks {
			return "", errors.New("too many symlinks")
		}
		if filepath.IsAbs(target) {
			done = "/"
		}
		rest = append(strings.Split(target, "/"), rest...)
	}
	_, err := os.Lstat(filepath.Join(root, done))
	return done, err
}
