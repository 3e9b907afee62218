// Package usermanager asks systemd, over D-Bus, for what keeps a process alive
// that is to outlive its terminal: a scope of its own, or a unit. For a user that
// is his own manager, for root the system's. Where there is none every call fails
// with ErrAbsent, and nobody depends on it. It starts no program.
package usermanager

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/godbus/dbus/v5"
	"golang.org/x/sys/unix"

	"banger"
)

// ErrAbsent means that no manager is reachable.
var ErrAbsent = errors.New("no systemd manager is reachable")

const (
	scopeLimit = 3 * time.Second  // nothing may wait long for a manager that hangs
	unitLimit  = 60 * time.Second // a reload runs all generators: 5 s were seen under emulation
	lookEvery  = 5 * time.Millisecond
	greetEvery = 50 * time.Millisecond
	manager    = "org.freedesktop.systemd1"
	object     = dbus.ObjectPath("/org/freedesktop/systemd1")
)

// A Manager is the systemd that looks after a user's processes.
type Manager struct {
	uid    int
	socket string // the manager's own: it needs no bus, and starts none
	proc   string // /proc, another directory in tests
	linger string // directory of the marks of users who linger
}

// Of returns the manager of the user uid; it connects to nothing yet.
func Of(uid int) *Manager {
	m := &Manager{uid: uid, socket: "/run/systemd/private", proc: "/proc", linger: "/var/lib/systemd/linger"}
	if uid != 0 {
		m.socket = filepath.Join("/run/user", strconv.Itoa(uid), "systemd/private")
	}
	return m
}

// Reachable returns nil if the manager can be asked.
func (m *Manager) Reachable() error {
	if err := unix.Access(m.socket, unix.W_OK); err != nil {
		return fmt.Errorf("%w: %s: %w", ErrAbsent, m.socket, err)
	}
	return nil
}

// Lingers reports whether the manager, and what it looks after, stays when the
// user has logged out. The system's always does.
func (m *Manager) Lingers() bool {
	if m.uid == 0 {
		return true
	}
	u, err := user.LookupId(strconv.Itoa(m.uid))
	if err != nil {
		return false
	}
	_, err = os.Stat(filepath.Join(m.linger, u.Username))
	return err == nil
}

// Beneath reports whether this process is in a cgroup of the user's manager: it
// ends with it, then.
func (m *Manager) Beneath() bool {
	return strings.Contains(m.cgroup("self")+"/", "/user@"+strconv.Itoa(m.uid)+".service/")
}

// Unit is the name of the unit that the process is in, "" if that is not known.
func (m *Manager) Unit(pid int) string {
	return filepath.Base(m.cgroup(strconv.Itoa(pid)))
}

// cgroup is the path of a process in the one hierarchy, "" if there is none.
func (m *Manager) cgroup(pid string) string {
	b, err := os.ReadFile(filepath.Join(m.proc, pid, "cgroup"))
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(b)) {
		// Of several hierarchies systemd's own has no number or its name.
		if p, ok := strings.CutPrefix(line, "0::"); ok {
			return strings.TrimSpace(p)
		}
	}
	return ""
}

// call runs fn with a connection to the manager, for at most limit.
func (m *Manager) call(ctx context.Context, limit time.Duration, fn func(context.Context, dbus.BusObject) error) error {
	if err := m.Reachable(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	// Not dbus.SessionBus: that may start a bus, and needs one.
	conn, err := dbus.Dial("unix:path="+dbusEscape(m.socket), dbus.WithContext(ctx))
	if err != nil {
		return fmt.Errorf("%w: %w", ErrAbsent, err)
	}
	defer conn.Close()
	if err := conn.Auth([]dbus.Auth{dbus.AuthExternal(strconv.Itoa(m.uid))}); err != nil {
		return fmt.Errorf("%w: log in at %s: %w", ErrAbsent, m.socket, err)
	}
	o := conn.Object(manager, object)
	err = greet(ctx, o)
	if err == nil {
		err = fn(ctx, o)
	}
	if err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return fmt.Errorf("ask systemd: %w", err)
	}
	return nil
}

// greet returns once the manager answers on this connection. A message that
// reaches systemd 252 together with the end of the log-in lies there until
// something follows it, seen as calls that were carried out when the connection
// ended a minute later: so something follows, until there is an answer.
func greet(ctx context.Context, o dbus.BusObject) error {
	const most = 64
	answers := make(chan *dbus.Call, most)
	tick := time.NewTicker(greetEvery)
	defer tick.Stop()
	for n := 0; ; n++ {
		if n < most { // room for all answers
			o.GoWithContext(ctx, "org.freedesktop.DBus.Peer.Ping", 0, answers)
		}
		select {
		case c := <-answers:
			return c.Err
		case <-tick.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// dbusEscape writes a path as the D-Bus specification wants it in an address.
func dbusEscape(path string) string {
	var b strings.Builder
	for _, c := range []byte(path) {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', strings.IndexByte("-_/.\\", c) >= 0:
			b.WriteByte(c)
		default:
			fmt.Fprintf(&b, "%%%02x", c)
		}
	}
	return b.String()
}

// A property of a unit, as StartTransientUnit takes it.
type property struct {
	Name  string
	Value dbus.Variant
}

// Scope puts a process into a scope of its own, which goes with it, and returns
// once it is there. name is the scope's without .scope.
func (m *Manager) Scope(ctx context.Context, pid int, name, description string) error {
	unit := name + ".scope"
	err := m.call(ctx, scopeLimit, func(ctx context.Context, o dbus.BusObject) error {
		properties := []property{
			{"Description", dbus.MakeVariant(description)},
			{"PIDs", dbus.MakeVariant([]uint32{uint32(pid)})},
			{"CollectMode", dbus.MakeVariant("inactive-or-failed")},
		}
		type auxiliary struct { // none
			Name       string
			Properties []property
		}
		if err := o.CallWithContext(ctx, manager+".Manager.StartTransientUnit", 0, unit, "fail", properties, []auxiliary{}).Err; err != nil {
			return err
		}
		err := m.arrived(ctx, pid, unit)
		if errors.Is(err, errGone) {
			// A scope that nobody ever was in is kept for good: its end is that of
			// the last process in it.
			err = errors.Join(err, o.CallWithContext(ctx, manager+".Manager.StopUnit", 0, unit, "replace").Err)
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("scope %s: %w", unit, err)
	}
	return nil
}

// errGone means that a process has ended.
var errGone = errors.New("the process has ended")

// gone reports whether a process has ended, be it that nobody has waited for it.
func (m *Manager) gone(pid int) bool {
	b, err := os.ReadFile(filepath.Join(m.proc, strconv.Itoa(pid), "stat"))
	if err != nil {
		return errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ESRCH)
	}
	_, state, _ := strings.Cut(string(b[bytes.LastIndexByte(b, ')')+1:]), " ") // its name may hold anything
	return strings.HasPrefix(state, "Z") || strings.HasPrefix(state, "X")
}

// arrived waits until a process is in a unit, or errGone. The kernel says so where
// it is true; the manager's signals would have to be subscribed to.
func (m *Manager) arrived(ctx context.Context, pid int, unit string) error {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for m.Unit(pid) != unit {
		if m.gone(pid) {
			return errGone
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("process %d is in %q: %w", pid, m.cgroup(strconv.Itoa(pid)), context.Cause(ctx))
		}
	}
	return nil
}

// Enable makes the manager know the unit file at path and start it by itself
// from now on.
func (m *Manager) Enable(ctx context.Context, path string) error {
	return m.call(ctx, unitLimit, func(ctx context.Context, o dbus.BusObject) error {
		const runtime, force = false, true
		if err := o.CallWithContext(ctx, manager+".Manager.Reload", 0).Err; err != nil {
			return err
		}
		return o.CallWithContext(ctx, manager+".Manager.EnableUnitFiles", 0, []string{filepath.Base(path)}, runtime, force).Err
	})
}

// Forget removes the unit file at path, so that the manager no longer starts it.
// One that is not there is success; without a manager the files go alone.
func (m *Manager) Forget(ctx context.Context, path string) error {
	err := m.call(ctx, unitLimit, func(ctx context.Context, o dbus.BusObject) error {
		return o.CallWithContext(ctx, manager+".Manager.DisableUnitFiles", 0, []string{filepath.Base(path)}, false).Err
	})
	if errors.Is(err, ErrAbsent) {
		err = nil
	}
	links, _ := filepath.Glob(filepath.Join(filepath.Dir(path), "*.wants", filepath.Base(path)))
	for _, p := range append(links, path) {
		if rerr := os.Remove(p); rerr != nil && !errors.Is(rerr, fs.ErrNotExist) {
			err = errors.Join(err, rerr)
		}
	}
	reload := m.call(ctx, unitLimit, func(ctx context.Context, o dbus.BusObject) error {
		return o.CallWithContext(ctx, manager+".Manager.Reload", 0).Err
	})
	if errors.Is(reload, ErrAbsent) {
		reload = nil
	}
	return errors.Join(err, reload)
}

// Start and Stop ask for a unit to start or stop, and do not wait for it.
func (m *Manager) Start(ctx context.Context, unit string) error {
	return m.job(ctx, "StartUnit", unit)
}

func (m *Manager) Stop(ctx context.Context, unit string) error { return m.job(ctx, "StopUnit", unit) }

func (m *Manager) job(ctx context.Context, method, unit string) error {
	return m.call(ctx, unitLimit, func(ctx context.Context, o dbus.BusObject) error {
		return o.CallWithContext(ctx, manager+".Manager."+method, 0, unit, "replace").Err
	})
}

// Absent is ErrAbsent as a user is told it.
func (m *Manager) Absent(err error) error {
	e := banger.Errorf(banger.HostUnready, "%w", err)
	if m.uid == 0 {
		return e.WithRemedy("this host does not run systemd: start bangerd in its own way")
	}
	return e.WithRemedy("log in as this user by ssh or at a console, or keep the manager running: loginctl enable-linger")
}
