package server

import (
	"context"
	"errors"
	"maps"
	"os"
	"slices"
	"time"

	"banger"
	"banger/internal/blockdev"
	"banger/internal/fault"
	"banger/internal/network"
	"banger/internal/privileged"
)

// do does what a valid request asks for, and logs it. The descriptors are the
// caller's to close.
func (s *server) do(c *conn, r privileged.Request, files []*os.File) (a privileged.Response, err error) {
	s.doing.Lock()
	defer s.doing.Unlock()
	var changes []string
	log := c.log.With("op", r.Op)
	if r.Network != nil {
		log = log.With("tag", r.Network.Tag, "subnet", r.Network.Subnet, "taps", len(r.Network.Taps), "ports", len(r.Network.Ports))
	}
	if r.Resolver != nil {
		log = log.With("tag", r.Resolver.Tag, "server", r.Resolver.Server)
	}
	if r.Disk != nil {
		log = log.With("tag", r.Disk.Tag, "vm", r.Disk.VM, "size", r.Disk.Size)
	}
	begun := time.Now()
	defer func() { log.Info("request", "took", time.Since(begun), "changed", len(changes), "err", err) }()
	if err = allow(s.policy, s.uid, r); err == nil {
		err = fault.At("request")
	}
	switch {
	case err != nil:
	case r.Op == privileged.NetworkProbe:
		err = s.router.Probe(context.Background())
	case r.Op == privileged.NetworkSet:
		changes, err = s.set(c, r, files)
	case r.Op == privileged.ResolverSet:
		err = s.resolve(c, *r.Resolver)
	case r.Op == privileged.KVMAllow:
		err = alone(privileged.RunDir, func() error { return allowKVM(s.kvm, s.uid) })
	case r.Op == privileged.KVMRevoke:
		err = alone(privileged.RunDir, func() error { return revokeKVM(s.kvm, s.uid) })
	case r.Op == privileged.DiskProbe:
		err = s.disks.Probe(files[0])
	case r.Op == privileged.DiskAttach:
		a.Device, err = s.disks.Attach(disk(r), r.Disk.Size, files[0], files[1])
	case r.Op == privileged.DiskDetach:
		err = s.disks.Detach(disk(r))
	case r.Op == privileged.DiskStatus:
		a.Used, a.Total, err = s.disks.Fill(disk(r))
	} // and root.exit once it is answered
	return a, err
}

func disk(r privileged.Request) blockdev.Disk { return blockdev.Disk{Tag: r.Disk.Tag, VM: r.Disk.VM} }

// set is not ended by who asked for it: half a network helps nobody.
func (s *server) set(c *conn, r privileged.Request, sockets []*os.File) ([]string, error) {
	if err := s.theirs(c, r.Network.Tag); err != nil {
		return nil, err
	}
	if err := s.claim(r.Network.Ports, sockets); err != nil {
		return nil, err
	}
	changes, err := s.apply(*r.Network)
	switch {
	case err == nil && len(r.Network.Taps) > 0:
		s.held[r.Network.Tag] = holding{c, *r.Network}
		s.watchPorts()
	case err == nil || len(changes) > 0:
		// Gone; or neither the old nor the new, and nobody wants the old back.
		delete(s.held, r.Network.Tag)
	}
	return changes, err
}

// theirs fails, as WrongState, while somebody else holds the network of that tag: two who
// did would take each other's taps away again and again.
func (s *server) theirs(c *conn, tag string) error {
	h, held := s.held[tag]
	if !held || h.by == c || !h.by.connected() {
		return nil
	}
	return banger.Errorf(banger.WrongState, "the network of this installation (tag %s) is that of another daemon of yours, process %d: one's state directory is a copy of the other's", tag, h.by.pid).
		WithRemedy("stop one of them: kill %d", h.by.pid)
}

// claim reads from the sockets which ports they are.
func (s *server) claim(ports []network.Port, sockets []*os.File) error {
	for i := range ports {
		p := &ports[i]
		if err := s.router.Claim(p, sockets[i]); err != nil {
			return err
		}
		same := func(q network.Port) bool { return q.Host == p.Host && q.Proto == p.Proto }
		if slices.ContainsFunc(ports[:i], same) {
			return banger.Errorf(banger.Invalid, "port %s of the host comes twice", p.Host)
		}
	}
	return nil
}

func (s *server) apply(n network.Config) (changes []string, err error) {
	err = alone(privileged.RunDir, func() (err error) {
		changes, err = s.router.Apply(n)
		return err
	})
	return changes, err
}

func (s *server) holds(c *conn) bool {
	s.doing.Lock()
	defer s.doing.Unlock()
	return slices.ContainsFunc(slices.Collect(maps.Values(s.held)), func(h holding) bool { return h.by == c })
}

// mend sets what is held again whenever something of it may be lost, until ctx
// ends.
func (s *server) mend(ctx context.Context, lost chan struct{}) {
	for ctx.Err() == nil {
		select {
		case <-lost:
		case <-ctx.Done():
		}
		select { // what comes with it is done with it
		case <-time.After(quietTime):
		case <-ctx.Done():
		}
		if s.again() != nil {
			time.AfterFunc(retryAfter, func() { poke(lost) })
		}
	}
}

func (s *server) again() (all error) {
	if err := fault.At("set again"); err != nil {
		return err
	}
	s.doing.Lock()
	defer s.doing.Unlock()
	for tag, h := range s.held {
		changes, err := s.apply(h.net)
		if len(h.net.Ports) > 0 && banger.CodeOf(err) == banger.HostUnready { // a firewall came
			h.by.log.Warn("ports are led no more", "tag", tag, "err", err)
			h.net.Ports = nil
			s.held[tag] = h
			changes, err = s.apply(h.net)
		}
		if err != nil || len(changes) > 0 {
			h.by.log.Warn("set again what was lost", "tag", tag, "changed", changes, "err", err)
		}
		if t, ok := s.told[tag]; ok && len(changes) > 0 { // its link may be another now
			err = errors.Join(err, s.resolve(t.by, t.Resolver))
		}
		all = errors.Join(all, err)
	}
	return all
}
