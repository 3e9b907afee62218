package launch

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"banger"
	"banger/internal/usermanager"
)

// manager is the systemd that looks after this user's daemon.
func (l *Launcher) manager() *usermanager.Manager { return usermanager.Of(os.Geteuid()) }

// unit is the unit of this installation's daemon, and where its file lies.
func (l *Launcher) unit() (usermanager.Unit, string, error) {
	exe, err := l.candidate()
	if err != nil {
		return usermanager.Unit{}, "", err
	}
	env := slices.DeleteFunc(kept(l.Environ), func(kv string) bool {
		name, _, _ := strings.Cut(kv, "=")
		lower := strings.ToLower(name)
		return name != "PATH" && !strings.HasSuffix(lower, "_proxy") && !strings.HasPrefix(name, "BANGER_") || name == "BANGER_STATE_DIR"
	})
	// Found by the same name whatever the manager's environment is.
	env = append(env, "BANGER_STATE_DIR="+l.Layout.State)
	slices.Sort(env)
	path := usermanager.UnitPath(os.Geteuid(), filepath.Dir(l.Layout.Config))
	return usermanager.Unit{Exe: exe, Env: env, UID: os.Geteuid()}, path, nil
}

// Install makes the daemon a unit of systemd's, which starts with the user's
// manager, or with the host for root, and returns the unit file's path once a
// daemon runs by it. VMs go on.
func (l *Launcher) Install(ctx context.Context) (string, error) {
	u, path, err := l.unit()
	if err != nil {
		return "", err
	}
	m := l.manager()
	if err := m.Reachable(); err != nil {
		return "", m.Absent(err)
	}
	if same, err := u.SameState(path); err != nil || !same {
		if err == nil {
			err = banger.Errorf(banger.Exists, "%s runs the daemon of another state directory", path).WithRemedy("remove it there: banger daemon uninstall")
		}
		return "", err
	}
	u.Before = l.rootFirst(ctx)
	if err := u.Write(path); err != nil {
		return "", banger.Errorf(banger.HostUnready, "write the unit: %w", err).WithRemedy("ls -ld %s", filepath.Dir(path))
	}
	if err := m.Enable(ctx, path); err != nil {
		return "", errors.Join(err, m.Forget(context.WithoutCancel(ctx), path))
	}
	if err := l.Stop(ctx); err != nil && !errors.Is(err, ErrNone) {
		return "", err
	}
	if err := m.Start(ctx, usermanager.UnitName); err != nil {
		return "", err
	}
	if !m.Lingers() {
		l.IO.Note("it ends when you log out for the last time, and the VMs with it; to keep them: loginctl enable-linger")
	}
	return path, l.await(ctx)
}

// rootFirst is what the unit runs before the daemon, so that VMs that start with it find a
// banger-root when nobody is there to start one: nil where sudo does not let it without a
// question, as was just tried.
func (l *Launcher) rootFirst(ctx context.Context) []string {
	if !l.MayHaveRoot() {
		return nil
	}
	sudo, err := exec.LookPath("sudo")
	if err == nil {
		err = l.TryRoot(ctx, "VMs that start by themselves may need it")
	}
	if e := banger.AsError(err); e != nil {
		l.IO.Note("VMs that need banger-root will not start by themselves: %s; %s", e.Message, e.Remedy)
		return nil
	}
	return []string{sudo, "-n", "--", l.rootsOwn()}
}

// await returns once a daemon answers.
func (l *Launcher) await(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, l.Patience, banger.Errorf(banger.TimedOut, "bangerd has not answered within %v", l.Patience).
		WithRemedy("see how %s is: systemctl status", usermanager.UnitName).WithLog(l.Layout.DaemonLog()))
	defer cancel()
	for {
		lock, held, err := l.look()
		if err != nil {
			return err
		}
		if held && l.answers(ctx, lock) {
			return nil
		}
		if err := pause(ctx); err != nil {
			return err
		}
	}
}

// Uninstall takes the unit back: the daemon that runs by it ends, VMs go on, and
// the next command starts one as before. No unit is success.
func (l *Launcher) Uninstall(ctx context.Context) error {
	u, path, err := l.unit()
	if err != nil {
		return err
	}
	if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
		l.IO.Note("bangerd is not installed as a unit")
		return nil
	}
	if same, err := u.SameState(path); err != nil || !same {
		if err == nil {
			err = banger.Errorf(banger.WrongState, "%s runs the daemon of another state directory", path).WithRemedy("set BANGER_STATE_DIR to that one: grep BANGER_STATE_DIR %s", path)
		}
		return err
	}
	m := l.manager()
	if err := m.Stop(ctx, usermanager.UnitName); err != nil && !errors.Is(err, usermanager.ErrAbsent) {
		return fmt.Errorf("stop %s: %w", usermanager.UnitName, err)
	}
	if err := l.Stop(ctx); err != nil && !errors.Is(err, ErrNone) {
		return err
	}
	return m.Forget(ctx, path)
}

// InstalledUnit is the path of the unit file if it runs the daemon of this
// installation, else "".
func (l *Launcher) InstalledUnit() (string, error) {
	u, path, err := l.unit()
	if err != nil {
		return "", err
	}
	if _, err := os.Lstat(path); err != nil {
		return "", nil
	}
	if same, err := u.SameState(path); err != nil || !same {
		return "", err
	}
	return path, nil
}

// byUnit starts the daemon by its unit, if it is installed as one that starts the
// program that we would start; else it reports false.
func (l *Launcher) byUnit(ctx context.Context) bool {
	u, path, err := l.unit()
	if err != nil || !u.Runs(path) {
		return false
	}
	if err := l.manager().Start(ctx, usermanager.UnitName); err != nil {
		l.IO.Note("bangerd is started without its unit: %v", err)
		return false
	}
	return true
}
