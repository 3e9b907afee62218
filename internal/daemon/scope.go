package daemon

import (
	"context"
	"fmt"
	"os"
	"strings"

	"banger/internal/doctor"
	"banger/internal/host"
	"banger/internal/usermanager"
)

// A scoper gives the daemon and each VMM a scope of its own, so that neither the
// end of a terminal nor an out-of-memory killer that chose one of them ends the
// others. Without a manager to ask everything stays where it is.
type scoper struct {
	*host.Host
	d       *daemon
	manager *usermanager.Manager
}

// Launch implements host.Launcher. That a process could not be moved is logged:
// it runs all the same.
func (s *scoper) Launch(ctx context.Context, c host.Cmd, log string) (host.ProcID, error) {
	id, err := s.Host.Launch(ctx, c, log)
	if err == nil && c.Scope != "" && s.wanted() {
		if serr := s.manager.Scope(ctx, id.PID, c.Scope, "VM of banger"); serr != nil {
			s.d.log.Warn("give a VMM a scope of its own", "pid", id.PID, "err", serr)
		}
	}
	return id, err
}

// wanted reports whether a scope is better than where processes are. A login
// session's processes survive a logout, by logind's default, and a manager
// without lingering does not: then they stay in the session.
func (s *scoper) wanted() bool {
	return s.manager.Reachable() == nil && (s.manager.Lingers() || s.manager.Beneath())
}

// self moves the daemon, unless a unit looks after it.
func (s *scoper) self(ctx context.Context) {
	unit := s.manager.Unit(os.Getpid())
	if !s.wanted() || unit == usermanager.UnitName || strings.HasPrefix(unit, "banger-") {
		return
	}
	name := fmt.Sprintf("banger-%s-daemon-%d", s.d.tag, os.Getpid())
	if err := s.manager.Scope(ctx, os.Getpid(), name, "Daemon of banger"); err != nil {
		s.d.log.Warn("give the daemon a scope of its own", "err", err)
	}
}

// checkLogout tells what survives a logout.
func (d *daemon) checkLogout(context.Context) doctor.Result {
	m := d.scopes.manager
	const remedy = "loginctl enable-linger"
	switch err := m.Reachable(); {
	case err != nil:
		return doctor.Result{Status: doctor.Note, Message: err.Error() + "; VMs stay in the cgroup of whatever started the daemon, and may end with it",
			Remedy: "nothing to do where nobody logs out, as in a container"}
	case m.Lingers():
		return doctor.Result{Status: doctor.OK, Message: "the daemon, each VM and banger-root have a systemd scope of their own, and stay after a logout"}
	case m.Beneath():
		return doctor.Result{Status: doctor.Warning, Message: "lingering is off: the daemon and all VMs end when you log out for the last time", Remedy: remedy}
	}
	return doctor.Result{Status: doctor.Warning, Remedy: remedy,
		Message: "lingering is off: the daemon and all VMs live in the login session that started them, and end with it where logind has KillUserProcesses=yes"}
}
