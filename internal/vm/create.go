package vm

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"

	"banger"
	"banger/internal/guest"
	"banger/internal/steps"
)

// Create makes a VM and, unless told otherwise, starts it. A Create that fails
// or is cancelled leaves nothing but the logs of a failed start.
func (m *Manager) Create(ctx context.Context, c Create, rep Reporter) (banger.VM, error) {
	spec, err := m.resolve(c)
	if err != nil {
		return banger.VM{}, err
	}
	takesRoot := m.takes(c.Root)
	if spec, err = m.choose(ctx, spec, m.networkOf(c) == banger.NetworkAuto, takesRoot); err != nil {
		return banger.VM{}, err
	}
	img, err := m.c.Images.Resolve(ctx, spec.Image, c.Bundle, rep)
	if err != nil {
		return banger.VM{}, err
	}
	spec.Image = img.Name
	if c.Disk == nil {
		spec.Disk = max(spec.Disk, img.Rootfs.Size)
	}
	if err := checkDisk(spec.Disk, img.Rootfs.Size); err != nil {
		return banger.VM{}, err
	}
	if spec, err = m.settleNetwork(ctx, spec, c.NAT, takesRoot, rep); err != nil {
		return banger.VM{}, err
	}
	spec.Isolated = m.isolated(spec.Network, c.Isolated)
	if c.NoStart {
		err = m.bestDisk(ctx, spec)
	} else {
		err = m.preflight(ctx, spec, rep)
	}
	if err != nil {
		return banger.VM{}, err
	}
	rec, unlock, err := m.record(ctx, spec, img)
	if err != nil {
		return banger.VM{}, err
	}
	defer unlock()
	if err := m.create(ctx, rec, img, c.NoStart, rep); err != nil {
		return banger.VM{}, m.clear(err)
	}
	if rec, err = m.c.Store.VM(ctx, rec.ID); err != nil {
		return banger.VM{}, err
	}
	return m.view(rec), nil
}

// record writes the VM's record, under a made-up name if it has none, with its
// lock held.
func (m *Manager) record(ctx context.Context, spec banger.Spec, img banger.Image) (banger.Record, func(), error) {
	hostKey, _, err := guest.NewKey()
	if err != nil {
		return banger.Record{}, nil, err
	}
	rec := banger.Record{
		ID: banger.VMID(random(4)), Spec: spec, ImageID: img.ID, HostKey: hostKey,
		Intent: banger.IntentCreating, CreatedAt: m.c.Now(),
	}
	unlock, err := m.locks.Lock(ctx, rec.ID)
	if err != nil {
		return rec, nil, err
	}
	lease := func(taken []banger.Lease) (banger.Lease, error) { return m.c.Lease(rec.ID, taken) }
	var made banger.Record
	err = m.claim(ctx, rec.ID, spec.Publish, func() error {
		for try := 0; ; try++ {
			if spec.Name == "" {
				rec.Spec.Name = madeUpName(try)
			}
			if made, err = m.c.Store.CreateVM(ctx, rec, lease); err == nil || spec.Name != "" || try >= maxNameTries || banger.CodeOf(err) != banger.Exists {
				return err
			}
		}
	})
	if err != nil {
		unlock()
		return rec, nil, err
	}
	return made, unlock, nil
}

func (m *Manager) create(ctx context.Context, rec banger.Record, img banger.Image, noStart bool, rep Reporter) error {
	s := &subject{m: m, rec: rec, img: img}
	hook := s.hook(rep)
	if !noStart {
		defer m.enter(rec.ID, banger.StateStarting)()
	}
	err := steps.Up(ctx, s, hook, s.exist()...)
	if err == nil {
		err = s.save(ctx, func(r *banger.Record) { r.Intent = banger.IntentStopped })
	}
	if err == nil {
		s.tell(banger.VMCreated)
	}
	if err == nil && !noStart {
		err = s.start(ctx, hook)
	}
	if err == nil {
		if !noStart {
			s.tellNote(rep)
		}
		return nil
	}
	e := m.keepLogs(s, banger.AsError(err))
	return errors.Join(e, s.remove(context.WithoutCancel(ctx), hook))
}

func random(bytes int) string {
	b := make([]byte, bytes)
	rand.Read(b) // never fails: crypto/rand, Go 1.24
	return hex.EncodeToString(b)
}
