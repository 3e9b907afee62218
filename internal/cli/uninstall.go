package cli

import (
	"context"
	"os"
	"path/filepath"

	"banger/internal/cli/dnscmd"
	"banger/internal/cli/launch"
	"banger/internal/cli/systemcmd"
	"banger/internal/resolver"
	"banger/internal/sshconfig"
)

// changed is this host as banger has changed it, for banger uninstall.
type changed struct {
	*installed
	dns  dnscmd.Host
	home string // the user's
}

// Installed implements systemcmd.Host.
func (c changed) Installed() (bool, error) {
	l, err := c.launcher()
	if err != nil {
		return false, err
	}
	return l.Layout.Made(), nil
}

// Traces implements systemcmd.Host.
func (c changed) Traces(tag string) (all []systemcmd.Trace, err error) {
	l, err := c.launcher()
	if err != nil {
		return nil, err
	}
	unit, err := l.InstalledUnit()
	if err != nil {
		return nil, err
	}
	if unit != "" {
		all = append(all, systemcmd.Trace{What: "the daemon's systemd unit", Path: unit, Remove: func(ctx context.Context) ([]string, error) { return nil, l.Uninstall(ctx) }})
	}
	config, note := l.Layout.SSHConfig(), l.Layout.SSHNote()
	if file := filepath.Join(c.home, ".ssh", "config"); filepath.IsAbs(file) && sshconfig.Includes(file, config) {
		all = append(all, systemcmd.Trace{What: "the line that includes the VMs", Path: file, Remove: func(context.Context) ([]string, error) {
			_, err := sshconfig.Uninstall(file, config, note)
			return nil, err
		}})
	}
	for _, s := range c.dns.Setups() {
		if tag != "" && s.Tag == tag { // another installation's is not ours to take away
			all = append(all, systemcmd.Trace{What: "by which " + string(s.Resolver) + " knows the VMs", Path: s.File,
				Remove: func(ctx context.Context) ([]string, error) { return c.forget(ctx, s) }})
		}
	}
	return all, nil
}

func (c changed) forget(ctx context.Context, s resolver.Setup) (commands []string, err error) {
	if !c.dns.Root {
		return c.dns.RemoveLines(s), nil
	}
	if err := c.dns.Remove(s); err != nil {
		return nil, err
	}
	return nil, c.dns.Run(ctx, resolver.Reload(s.Resolver))
}

// Data implements systemcmd.Host. Directories in which no installation is are none of
// banger's, whatever BANGER_STATE_DIR says.
func (c changed) Data() (dirs []string, err error) {
	l, err := c.launcher()
	if err != nil || !l.Layout.Made() {
		return nil, err
	}
	for _, d := range []string{l.Layout.State, l.Layout.Run} {
		if there(d) {
			dirs = append(dirs, d)
		}
	}
	return dirs, nil
}

// Purge implements systemcmd.Host.
func (c changed) Purge() ([]string, error) {
	l, err := c.launcher()
	if err != nil {
		return nil, err
	}
	return l.Layout.Remove()
}

// Others implements systemcmd.Host.
func (c changed) Others() (mine, roots []string, err error) {
	l, err := c.launcher()
	if err != nil {
		return nil, nil, err
	}
	for _, path := range []string{l.Layout.ConfigFile(), filepath.Join(l.Layout.Data, "runtime")} {
		if there(path) {
			mine = append(mine, path)
		}
	}
	for _, path := range launch.RootFiles() {
		if there(path) {
			roots = append(roots, path)
		}
	}
	return mine, roots, nil
}

func there(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}
