package sshconfig

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"banger"
)

// includeLine is the line that a user's configuration gets.
func includeLine(config string) string { return "Include " + Quote(config) + "\n" }

// Install puts an Include of config at the top of file, where it counts for all
// hosts, and returns whether anything was to do. A file that is missing is made,
// with its directory; note, a path of banger's own, remembers that, so that
// Uninstall can undo it.
func Install(file, config, note string) (changed bool, err error) {
	file, old, err := read(file)
	missing := errors.Is(err, fs.ErrNotExist)
	if err != nil && !missing {
		return false, err
	}
	line := includeLine(config)
	if has(old, line) {
		return false, nil
	}
	if missing {
		made := "file\n"
		dir := filepath.Dir(file)
		if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
			made = "directory\n"
		}
		if err := os.WriteFile(note, []byte(made+file+"\n"), 0o600); err != nil { // before what it tells of
			return false, err
		}
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return false, err
		}
	}
	return true, Replace(file, line+old, 0o600)
}

// Uninstall takes the line of Install out again, and what Install made for it;
// every other byte stays. It returns whether anything was to do.
func Uninstall(file, config, note string) (changed bool, err error) {
	file, old, err := read(file)
	if errors.Is(err, fs.ErrNotExist) {
		return false, ignoreMissing(os.Remove(note))
	}
	if err != nil {
		return false, err
	}
	line := includeLine(config)
	if !has(old, line) {
		return false, ignoreMissing(os.Remove(note))
	}
	rest := without(old, line)
	made, err := os.ReadFile(note)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, err
	}
	what, of, _ := strings.Cut(string(made), "\n")
	if rest != "" || of != file+"\n" {
		err = Replace(file, rest, 0o600)
	} else {
		err = os.Remove(file)
		if err == nil && what == "directory" {
			if e := os.Remove(filepath.Dir(file)); e != nil && !errors.Is(e, unix.ENOTEMPTY) {
				err = e
			}
		}
	}
	if err != nil {
		return false, err
	}
	return true, ignoreMissing(os.Remove(note))
}

// Includes reports whether file has the line of Install.
func Includes(file, config string) bool {
	_, text, err := read(file)
	return err == nil && has(text, includeLine(config))
}

func ignoreMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// maxConfig bounds a configuration that is read, bytes.
const maxConfig = 16 << 20

// read returns what is in file, and the file that it is: one that is a symbolic
// link, as those who keep such files elsewhere have it, stays one.
func read(file string) (real, content string, err error) {
	real, err = filepath.EvalSymlinks(file)
	if errors.Is(err, fs.ErrNotExist) {
		if _, e := os.Lstat(file); e == nil {
			return file, "", banger.Errorf(banger.HostUnready, "%s is a link to nothing", file).WithRemedy("remove it, or make what it leads to")
		}
		return file, "", err
	}
	if err != nil {
		return file, "", err
	}
	st, err := os.Stat(real)
	if err != nil {
		return real, "", err
	}
	if !st.Mode().IsRegular() || st.Size() > maxConfig {
		return real, "", banger.Errorf(banger.HostUnready, "%s is no configuration of ssh's", real)
	}
	b, err := os.ReadFile(real)
	return real, string(b), err
}

// has says whether line is one of text's; its last one may lack the newline.
func has(text, line string) bool {
	for l := range strings.Lines(text) {
		if strings.TrimSuffix(l, "\n") == strings.TrimSuffix(line, "\n") {
			return true
		}
	}
	return false
}

func without(text, line string) string {
	var b strings.Builder
	for l := range strings.Lines(text) {
		if strings.TrimSuffix(l, "\n") != strings.TrimSuffix(line, "\n") {
			b.WriteString(l)
		}
	}
	return b.String()
}

// Replace makes file hold content, all of it or what it held before, with the
// mode and owner that it had; a new one gets mode. What an interrupted one leaves
// beside file the next one overwrites. The directory must be the user's own.
func Replace(file, content string, mode fs.FileMode) (err error) {
	var old unix.Stat_t
	had := unix.Stat(file, &old) == nil
	if had {
		mode = fs.FileMode(old.Mode & 0o777)
	}
	tmp := file + ".banger-new"
	f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			os.Remove(tmp)
		}
	}()
	_, err = f.WriteString(content)
	if had && (int(old.Uid) != os.Geteuid() || int(old.Gid) != os.Getegid()) {
		err = errors.Join(err, f.Chown(int(old.Uid), int(old.Gid)))
	}
	err = errors.Join(err, f.Chmod(mode), f.Sync(), f.Close())
	if err != nil {
		return err
	}
	return os.Rename(tmp, file)
}
