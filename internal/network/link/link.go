// Package link makes the host's side of routed networks: a link with the
// gateway's address, a tap with a host route per VM, their sysctls, and the
// rules of what may pass and whose address is translated on its way out. It
// runs in banger-root. It remembers nothing: what is there is read from the
// kernel, and whose it is from what is written there.
package link

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"banger"
	"banger/internal/fault"
	"banger/internal/network"
	"banger/internal/network/addr"
)

// A Router is one user's side of a network.Router. It works in the network namespace of
// the thread that calls it.
type Router struct {
	uid     uint32
	resolvs []string // resolv.conf(5) files
	limits  limits   // of each guest

	mu    sync.Mutex
	whole map[string]bool // tags whose last Apply has done all
}

// New returns the router for what belongs to uid. No subnet may hold a resolver
// that one of the resolv.conf(5) files names.
func New(uid uint32, resolvs ...string) *Router {
	return &Router{uid: uid, resolvs: resolvs, limits: limits{maxFlows, maxFresh, burstOver}, whole: map[string]bool{}}
}

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
	if err := unix.Access("/proc/sys/net/ipv4/conf/default/forwarding", unix.W_OK); err != nil { // as in a container
		return banger.Errorf(banger.HostUnready, "/proc/sys cannot be written: %w", err).WithRemedy("use --network user")
	}
	return nil
}

// Apply makes the network equal to c, which is valid (privileged.CheckConfig), and
// says what it changed; nothing if all was as it should be, or if c adds something
// that the host leaves no room for. After another error some of that was done; the
// next Apply does the rest.
//
// The order keeps every tap and uplink behind the rules: taps that go, go first,
// and so does forwarding on what is no uplink any more; the rules know a tap
// before it is there, and an uplink before it forwards. The gateway's link is there
// before anything else and goes last: where an Apply died, whoever may not read
// rules sees by it that something is left.
func (r *Router) Apply(c network.Config) (changes []string, err error) {
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("open a netlink socket: %w", err)
	}
	defer h.Close()
	s := &setter{
		Handle: h, uid: r.uid, tag: c.Tag, net: network.SubnetOf(c.Subnet),
		own: addr.Alias(r.uid, c.Tag), limits: r.limits,
	}
	s.allRoutes = sync.OnceValues(func() ([]netlink.Route, error) {
		return whole(func() ([]netlink.Route, error) { return allRoutes(h) })
	})
	defer func() {
		if s.nft != nil {
			err = errors.Join(err, s.nft.CloseLasting())
		}
	}()
	s.taps = make([]tap, len(c.Taps))
	for i, t := range c.Taps {
		s.taps[i] = s.tap(t)
	}
	s.survey()
	s.refuse(c, r.resolvs)
	s.refusePorts(c)
	s.removeTaps()
	if len(c.Taps) > 0 {
		s.setGateway()
	}
	s.chooseUplinks(c)
	s.setPassages(c)
	if len(c.Taps) > 0 {
		s.setRules(c)
		s.setTaps()
		s.openUplinks()
	} else {
		s.removeRules()
		s.do(s.mine[s.gatewayAlias()] != nil, "delete gateway link", func() error { return s.LinkDel(s.mine[s.gatewayAlias()]) })
	}
	if !r.was(c.Tag, false) {
		s.endStale(c)
	}
	r.was(c.Tag, s.err == nil)
	return s.changes, s.err
}

// was notes whether a tag's last Apply has done all, and returns what was noted before.
func (r *Router) was(tag string, whole bool) (before bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	before = r.whole[tag]
	r.whole[tag] = whole
	return before
}

// Gateway returns the index of the link that holds an installation's gateway
// address, 0 if it has none.
func (r *Router) Gateway(tag string) (int, error) {
	l, err := netlink.LinkByName(addr.GatewayName(r.uid, tag))
	if errors.As(err, &netlink.LinkNotFoundError{}) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("look for the gateway's link: %w", err)
	}
	if !strings.HasPrefix(l.Attrs().Alias, addr.Alias(r.uid, tag)+gatewayOf) {
		return 0, nil // somebody else's
	}
	return l.Attrs().Index, nil
}

// A setter is one Apply under way. After an error it does nothing more. What it
// makes belongs to a user, and of that user's installations to the one with
// this tag, as says the alias of each link, which none but root can write.
type setter struct {
	*netlink.Handle
	nft  *nftables.Conn // the one of this Apply: see nftables
	uid  uint32
	tag  string
	net  network.Subnet
	own  string // begins the aliases
	taps []tap
	limits

	names map[string]netlink.Link // all links of the host
	mine  map[string]netlink.Link // by alias: those that belong to uid and tag
	index map[int]bool            // of these

	sysctls   map[string]sysctls              // by link, as the survey saw them
	allRoutes func() ([]netlink.Route, error) // as they were when they were first asked for

	uplinks []netlink.Link // by which taps with NAT reach the world
	opened  []netlink.Link // of these, where banger switches forwarding on

	changes []string
	err     error
}

// gatewayOf comes before the subnet in the alias of a gateway's link.
const gatewayOf = "gateway subnet="

func (s *setter) gatewayAlias() string { return s.own + gatewayOf + s.net.Prefix.String() }

// A tap is one that there is to be, with what follows from it.
type tap struct {
	network.Tap
	name, alias, mac string
	owner            uint32
}

func (s *setter) tap(t network.Tap) tap {
	return tap{
		Tap: t, name: addr.TapName(s.uid, s.tag, t.VM), alias: s.own + "vm=" + string(t.VM) + " address=" + t.Addr.String(),
		mac: addr.TapMAC(s.uid, s.tag, t.VM), owner: addr.TapOwner(s.uid, s.tag, s.net.Prefix, t.Addr),
	}
}

// do makes one change if it is needed, and is where a test makes it fail.
func (s *setter) do(needed bool, what string, f func() error) {
	if s.err != nil || !needed {
		return
	}
	if s.err = fault.Do(what, f); s.err == nil {
		s.changes = append(s.changes, what)
	}
}

// list reads what is there.
func list[T any](s *setter, what string, f func() (T, error)) (got T) {
	if s.err != nil {
		return got
	}
	s.err = fault.Do("list "+what, func() (err error) {
		got, err = whole(f)
		return err
	})
	return got
}

// whole reads a dump that the kernel changed meanwhile again: it may lack what was
// there all the time.
func whole[T any](f func() (T, error)) (got T, err error) {
	for range 10 {
		if got, err = f(); !errors.Is(err, netlink.ErrDumpInterrupted) {
			break
		}
	}
	return got, err
}

// free reports a link of somebody else's where one of s's should be.
func (s *setter) free(name string) error {
	if s.names[name] == nil {
		return nil
	}
	return banger.Errorf(banger.HostUnready, "a link %s is there, and is not banger's", name).
		WithRemedy("see what it is, and delete it: ip -d link show %s", name)
}

// removeTaps removes the taps that are not to be: also those whose VM has
// another address now, and those that are not what setTap makes. With them goes
// the gateway's link of another subnet.
func (s *setter) removeTaps() {
	keep := map[string]bool{s.gatewayAlias(): true}
	for _, t := range s.taps {
		keep[t.alias] = s.usable(s.mine[t.alias], t)
	}
	for alias, l := range s.mine {
		s.do(!keep[alias], "delete tap", func() error {
			delete(s.mine, alias)
			delete(s.names, l.Attrs().Name)
			delete(s.sysctls, l.Attrs().Name) // a tap that takes its place has its own
			return s.LinkDel(l)
		})
	}
}
