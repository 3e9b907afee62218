package vm

import (
	"context"
	"encoding/json"
	"errors"
	"net/netip"
	"os"

	"banger"
	"banger/internal/guestapi"
	"banger/internal/initramfs"
)

// ensureInitrd joins the VM's identity, this installation's guest program and
// the image's modules into one file that only the VMM can read.
func ensureInitrd(ctx context.Context, s *subject) error {
	if s.life != nil {
		return nil
	}
	f, err := s.m.c.Images.Files(ctx, s.img)
	if err != nil {
		return err
	}
	id, err := json.Marshal(s.identity())
	if err != nil {
		return err
	}
	if err := s.m.c.Paths.Prepare(); err != nil {
		return err
	}
	if err := privateDir(s.m.c.Paths.RunVMDir(s.rec.ID), s.owner()); err != nil {
		return err
	}
	return writeInitrd(s.m.c.Paths.Initrd(s.rec.ID, s.rec.Run.Launch), id, s.m.c.Guest, f.Initramfs, s.owner())
}

func writeInitrd(path string, identity []byte, guest, base string, o *banger.Owner) (err error) {
	b, err := os.Open(base)
	if err != nil {
		return err
	}
	defer b.Close()
	g, err := os.Open(guest)
	if err != nil {
		return banger.Errorf(banger.HostUnready, "open the guest program: %w", err).WithRemedy("make build (banger-guest lies beside bangerd)")
	}
	defer g.Close()
	w, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.Close()) }()
	if o != nil {
		if err := w.Chown(int(o.UID), int(o.GID)); err != nil {
			return err
		}
	}
	return initramfs.Join(w, identity, g, b)
}

func releaseInitrd(_ context.Context, s *subject) error {
	return os.RemoveAll(s.m.c.Paths.RunVMDir(s.rec.ID))
}

func (s *subject) identity() guestapi.Identity {
	r, net := s.rec, s.m.c.Subnet()
	work := ""
	if r.Spec.WorkDisk > 0 {
		work = workUUID(r.Lease)
	}
	return guestapi.Identity{
		Version: guestapi.Version, VM: string(r.ID), Launch: r.Run.Launch,
		Hostname: r.Spec.Name, MachineID: r.Lease.MachineID, MAC: r.Lease.MAC,
		Address: netip.PrefixFrom(r.Lease.Addr, 32), Gateway: net.Gateway, GatewayMAC: r.Run.Endpoint.GatewayMAC, MTU: r.Run.Endpoint.MTU,
		Resolvers: []netip.Addr{net.Resolver},
		HostKey:   r.HostKey, AuthorizedKeys: []string{s.m.c.AuthorizedKey},
		WorkDisk: work,
	}
}
