// Package link makes the host's side of routed networks: a link with the
// gateway's address, a tap with a host route per VM, their sysctls, and the
// rules of what may pass. It runs in banger-root. It remembers nothing: what
// is there is read from the kernel, and whose it is from what is written there.
// It does not translate addresses, and lets nothing out to the world.
package link

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"banger"
	"banger/internal/fault"
	"banger/internal/network"
)

// A Router is one user's network.Router. It works in the network namespace of
// the thread that calls it.
type Router struct {
	uid     uint32
	resolvs []string // resolv.conf(5) files
}

// New returns the router for what belongs to uid. No subnet may hold a resolver
// that one of the resolv.conf(5) files names.
func New(uid uint32, resolvs ...string) *Router { return &Router{uid: uid, resolvs: resolvs} }

// Probe reports what the kernel lacks, as HostUnready with a remedy.
func (r *Router) Probe(context.Context) error {
	fd, err := openTun()
	if err != nil {
		return err
	}
	unix.Close(fd)
	c, err := nftables.New()
	if err == nil {
		_, err = c.ListTablesOfFamily(nftables.TableFamilyINet)
	}
	if err != nil {
		return banger.Errorf(banger.HostUnready, "the kernel has no nftables: %w", err).WithRemedy("sudo modprobe nf_tables")
	}
	return nil
}

// Set makes the network equal to c, which is valid (privileged.CheckConfig).
// Nothing is touched if c adds something that the host leaves no room for.
func (r *Router) Set(_ context.Context, c network.Config) error {
	_, err := r.Apply(c)
	return err
}

// Apply is Set, and says what it changed; nothing if all was as it should be.
// After an error some of that was done; the next Apply does the rest.
//
// The order keeps every tap behind the rules: taps that go, go first; the rules
// know a tap before it is there.
func (r *Router) Apply(c network.Config) (changes []string, err error) {
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("open a netlink socket: %w", err)
	}
	defer h.Close()
	s := &setter{owner: owner{r.uid, c.Tag}, h: h, net: network.SubnetOf(c.Subnet), resolvs: r.resolvs}
	defer func() { changes = s.changes }()
	links, err := list(s, "links", h.LinkList)
	if err != nil {
		return nil, err
	}
	s.survey = s.owner.survey(links)
	if err := s.refuse(c); err != nil {
		return nil, err
	}
	if err := s.removeTaps(c); err != nil {
		return nil, err
	}
	if len(c.Taps) == 0 {
		return nil, errors.Join(s.removeGateway(), s.removeRules())
	}
	if err := s.rules(c); err != nil {
		return nil, err
	}
	if err := s.setGateway(); err != nil {
		return nil, err
	}
	return nil, s.setTaps(c)
}

// A setter is one Apply under way.
type setter struct {
	owner
	survey
	h       *netlink.Handle
	net     network.Subnet
	resolvs []string
	changes []string
}

// do makes one change, and is where a test makes it fail.
func (s *setter) do(what string, f func() error) error {
	err := fault.At(what)
	if err == nil {
		err = f()
	}
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	s.changes = append(s.changes, what)
	return nil
}

// list reads what is there. A dump that the kernel changed meanwhile is read
// again: it may lack what was there all the time.
func list[T any](s *setter, what string, f func() ([]T, error)) (got []T, err error) {
	if err := fault.At("list " + what); err != nil {
		return nil, err
	}
	for range 10 {
		if got, err = f(); !errors.Is(err, netlink.ErrDumpInterrupted) {
			break
		}
	}
	if err != nil {
		return nil, fmt.Errorf("list %s: %w", what, err)
	}
	return got, nil
}

// removeTaps removes the taps that c does not have, and those whose VM has
// another address now.
func (s *setter) removeTaps(c network.Config) error {
	want := map[banger.VMID]string{}
	for _, t := range c.Taps {
		want[t.VM] = s.tapAlias(t.VM, t.Addr)
	}
	for vm, l := range s.taps {
		if l.Attrs().Alias == want[vm] {
			continue
		}
		if err := s.do("delete tap of "+string(vm), func() error { return s.h.LinkDel(l) }); err != nil && !errors.Is(err, unix.ENODEV) {
			return err
		}
		delete(s.taps, vm)
		delete(s.names, l.Attrs().Name)
	}
	return nil
}
