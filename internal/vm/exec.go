package vm

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/crypto/ssh"

	"banger"
	"banger/internal/guest"
	"banger/internal/guestapi"
)

// Exec runs a command in a VM that runs, over its kept-open connection.
func (m *Manager) Exec(ctx context.Context, ref string, e guestapi.Exec, s guest.Streams) (guest.Exit, error) {
	return m.session(ctx, ref, "the command ran", func(g Guest) (guest.Exit, error) { return g.Exec(ctx, e, s) })
}

// Copy moves files into or out of a VM that runs. A guest program that does not
// know how is of a build before.
func (m *Manager) Copy(ctx context.Context, ref string, c guestapi.Copy, s guest.Streams) (guest.Exit, error) {
	exit, err := m.session(ctx, ref, "files were copied", func(g Guest) (guest.Exit, error) { return g.Copy(ctx, c, s) })
	if errors.Is(err, guest.ErrRefused) {
		err = banger.Errorf(banger.WrongState, "%w", err).
			WithRemedy("its guest program is older than this banger: banger vm restart %s", ref)
	}
	return exit, err
}

// session runs something over a VM's kept-open connection.
func (m *Manager) session(ctx context.Context, ref, what string, run func(Guest) (guest.Exit, error)) (guest.Exit, error) {
	r, err := m.c.Store.FindVM(ctx, ref)
	if err != nil {
		return guest.Exit{}, err
	}
	g, l, err := m.reach(ctx, r)
	if err != nil {
		return guest.Exit{}, err
	}
	exit, err := run(g)
	if errors.Is(err, guest.ErrLost) && m.parting(ctx, r.ID, l) {
		return exit, banger.Errorf(banger.Lost, "%s ended while %s", r.Spec.Name, what).WithRemedy("banger vm show %s says how", r.Spec.Name)
	}
	return exit, err
}

// partLimit is how long after its guest a VMM may end.
const partLimit = time.Second

// parting reports whether a life is at its end, or is being ended: then that is
// why its guest cannot be used. A connection breaks before its VMM has ended.
func (m *Manager) parting(ctx context.Context, id banger.VMID, l *life) bool {
	m.mu.Lock()
	leaving := m.phase[id] == banger.StateStopping || m.lives[id] != l
	m.mu.Unlock()
	if leaving {
		return true
	}
	late := time.NewTimer(partLimit)
	defer late.Stop()
	select {
	case <-l.gone:
		return true
	case <-late.C:
	case <-ctx.Done():
	}
	return false
}

// Reachable returns once commands can be run in the VM that ref names, waiting
// for its guest if it is about to be reachable, and its name.
func (m *Manager) Reachable(ctx context.Context, ref string) (name string, err error) {
	r, err := m.c.Store.FindVM(ctx, ref)
	if err == nil {
		_, _, err = m.reach(ctx, r)
	}
	return r.Spec.Name, err
}

// An SSHAccess is what ssh(1) needs to reach a VM by itself.
type SSHAccess struct {
	VM            banger.VM
	SSH           netip.AddrPort
	User          string
	IdentityFile  string
	HostPublicKey string // authorized_keys format
}

// Access says how ssh(1) reaches a VM that runs.
func (m *Manager) Access(ctx context.Context, ref string) (SSHAccess, error) {
	r, err := m.c.Store.FindVM(ctx, ref)
	if err != nil {
		return SSHAccess{}, err
	}
	if _, _, err := m.reach(ctx, r); err != nil {
		return SSHAccess{}, err
	}
	key, err := ssh.ParsePrivateKey([]byte(r.HostKey))
	if err != nil {
		return SSHAccess{}, fmt.Errorf("host key of %s: %w", r.Spec.Name, err)
	}
	return SSHAccess{
		VM: m.view(r), SSH: r.Run.Endpoint.SSH, User: loginUser,
		IdentityFile: m.c.IdentityFile, HostPublicKey: guest.AuthorizedKey(key.PublicKey()),
	}, nil
}

// loginUser is who the daemon logs in as; commands may run as others.
const loginUser = "root"

// reach returns the guest of a VM that runs.
func (m *Manager) reach(ctx context.Context, r banger.Record) (Guest, *life, error) {
	l := m.life(r.ID)
	if r.Run == nil || l == nil || l.over() || l.launch != r.Run.Launch {
		if m.view(r).State == banger.StateStarting {
			return nil, nil, banger.Errorf(banger.Busy, "%s is starting", r.Spec.Name).WithRemedy("banger vm wait %s", r.Spec.Name)
		}
		return nil, nil, banger.Errorf(banger.WrongState, "%s is not running", r.Spec.Name).WithRemedy("banger start %s", r.Spec.Name)
	}
	limited, cancel := m.untilReady(ctx)
	defer cancel()
	limited, stop := m.untilDeaf(limited, l)
	defer stop()
	s := subject{m: m, rec: r, life: l}
	g, err := m.c.Guests.Reach(limited, s.target(), l.gone)
	if why := m.deaf(l); why != nil && !l.over() {
		return nil, nil, unreachable(r.Spec.Name, why)
	}
	if err != nil && m.parting(ctx, r.ID, l) {
		return nil, nil, banger.Errorf(banger.WrongState, "%s has just ended: %w", r.Spec.Name, err).WithRemedy("banger start %s", r.Spec.Name)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("reach the guest of %s: %w", r.Spec.Name, err)
	}
	s.setReady(l) // a repair that was interrupted did not come so far
	return g, l, nil
}
