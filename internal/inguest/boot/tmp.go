package boot

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// keepTmp sees to it that /tmp is already what the image makes of it: commands
// run before its init has come that far, and what they put there is not to
// vanish. A tmpfs that systemd would mount is mounted now; a /tmp on the disk
// that it would empty stays as it is.
func keepTmp() error {
	if tmpIsMounted() {
		return mount(fileSystem{"tmpfs", "/tmp", "tmpfs", unix.MS_NOSUID | unix.MS_NODEV, "mode=1777,size=50%"})
	}
	const name = "tmpfiles.d/tmp.conf" // the highest directory that has it counts
	if _, err := os.Lstat("/etc/" + name); err == nil {
		return nil
	}
	text, err := os.ReadFile("/usr/lib/" + name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	lines := strings.Split(string(text), "\n")
	for i, line := range lines {
		f := strings.Fields(line)
		if len(f) > 1 && strings.HasPrefix(f[0], "D") && f[1] == "/tmp" { // "create, and empty at boot"
			lines[i] = "d" + strings.TrimPrefix(line, "D")
		}
	}
	file := "/run/" + name
	return errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, []byte(strings.Join(lines, "\n")), 0o644))
}

// tmpIsMounted reports whether systemd's tmp.mount is part of the image's boot.
func tmpIsMounted() bool {
	if target, err := os.Readlink("/etc/systemd/system/tmp.mount"); err == nil && target == os.DevNull {
		return false // masked
	}
	for _, dir := range []string{"/etc/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system"} {
		if _, err := os.Lstat(dir + "/local-fs.target.wants/tmp.mount"); err == nil {
			return true
		}
	}
	return false
}
