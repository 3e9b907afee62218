package usermanager

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// UnitName is the unit that runs bangerd.
const UnitName = "bangerd.service"

// A Unit is what a unit file says of a daemon.
type Unit struct {
	Exe    string   // absolute
	Before []string // a command that comes first each time, its program absolute; its failure is none
	Env    []string // K=V
	UID    int
}

// UnitPath is where the unit file of the user uid lies; config is his
// XDG_CONFIG_HOME.
func UnitPath(uid int, config string) string {
	if uid == 0 {
		return filepath.Join("/etc/systemd/system", UnitName)
	}
	return filepath.Join(config, "systemd/user", UnitName)
}

// Text is the unit file. KillMode=process: the end of the daemon is no reason for
// the VMs' processes to end. A daemon that was refused is not started again: exit
// codes 2, 4 and 5 are those of a wrong setting, of another that runs and of a
// host that is not ready.
func (u Unit) Text() string {
	var b strings.Builder
	b.WriteString("# Written by banger daemon install.\n[Unit]\nDescription=Daemon of banger, which runs VMs\n\n[Service]\nType=exec\n")
	if len(u.Before) > 0 {
		b.WriteString("ExecStartPre=-" + commandLine(u.Before...) + "\n")
	}
	b.WriteString(u.start())
	for _, kv := range u.Env {
		fmt.Fprintf(&b, "Environment=%s\n", quote(kv))
	}
	b.WriteString("KillMode=process\nRestart=on-failure\nRestartPreventExitStatus=2 4 5\n\n[Install]\nWantedBy=")
	if u.UID == 0 {
		b.WriteString("multi-user.target\n")
	} else {
		b.WriteString("default.target\n")
	}
	return b.String()
}

// quote writes a word as systemd.syntax(7) reads it back.
func quote(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, c := range []byte(s) {
		switch {
		case c == '%':
			b.WriteString("%%")
		case c == '"' || c == '\\':
			b.WriteByte('\\')
			b.WriteByte(c)
		case c < ' ' || c == 0x7f:
			fmt.Fprintf(&b, `\x%02x`, c)
		default:
			b.WriteByte(c)
		}
	}
	b.WriteByte('"')
	return b.String()
}

// Write writes the unit file as a whole, or leaves what is there.
func (u Unit) Write(path string) (err error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), "."+UnitName+"-") // systemd reads no hidden file
	if err != nil {
		return err
	}
	defer func() {
		if rerr := os.Remove(f.Name()); rerr != nil && !errors.Is(rerr, fs.ErrNotExist) {
			err = errors.Join(err, rerr)
		}
	}()
	_, err = f.WriteString(u.Text())
	err = errors.Join(err, f.Chmod(0o644), f.Sync(), f.Close())
	if err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}

// Runs reports whether the file at path is a unit that runs the program of u for
// its state directory, whatever else its environment is.
func (u Unit) Runs(path string) bool {
	b, err := os.ReadFile(path)
	if err != nil || !strings.Contains(string(b), "\n"+u.start()) {
		return false
	}
	same, err := u.SameState(path)
	return err == nil && same
}

// start is the line that names the program.
func (u Unit) start() string { return "ExecStart=" + commandLine(u.Exe) + "\n" }

// commandLine writes words as the lines of systemd.service(5) that name a command have
// them.
func commandLine(words ...string) string {
	quoted := make([]string, len(words))
	for i, w := range words {
		quoted[i] = strings.ReplaceAll(quote(w), "$", "$$")
	}
	return strings.Join(quoted, " ")
}

// SameState reports whether the file at path is a unit for the state directory
// of u, or there is none.
func (u Unit) SameState(path string) (bool, error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	for _, kv := range u.Env {
		if strings.HasPrefix(kv, "BANGER_STATE_DIR=") {
			return strings.Contains(string(b), "\nEnvironment="+quote(kv)+"\n"), nil
		}
	}
	return false, nil
}
