package daemon

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"banger"
	"banger/internal/api"
	"banger/internal/guestapi"
	"banger/internal/host"
	"banger/internal/network"
	"banger/internal/network/addr"
	"banger/internal/network/routed"
	"banger/internal/privileged/client"
)

// net is the installation's subnet; it moves only while no VM runs.
func (d *daemon) net() network.Subnet { return *d.subnet.Load() }

func (d *daemon) setNet(p netip.Prefix) {
	s := network.SubnetOf(p)
	d.subnet.Store(&s)
}

// identity reads, or chooses once and for all, the installation's tag and its
// subnet, which only a move changes.
func (d *daemon) identity(ctx context.Context) error {
	var err error
	d.tag, err = d.store.Setting(ctx, "tag", func() (string, error) { return fmt.Sprintf("%04x", rand.IntN(1<<16)), nil })
	if err != nil {
		return err
	}
	subnet, err := d.store.Setting(ctx, "subnet", d.freeSubnet)
	if err != nil {
		return err
	}
	p, err := netip.ParsePrefix(subnet)
	if err != nil {
		return fmt.Errorf("the installation's subnet: %w", err)
	}
	d.setNet(p)
	return nil
}

// freeSubnet is one that nothing of the host's overlaps now, a prefix.
func (d *daemon) freeSubnet() (string, error) {
	taken, err := routes(d.tag)
	if err != nil {
		return "", err
	}
	seed := fnv.New64a()
	seed.Write([]byte(d.tag + d.layout.State))
	p, err := addr.FreeSubnet(taken, seed.Sum64())
	return p.String(), err
}

// elsewhere is where the installation could move to, for a command to be copied.
func (d *daemon) elsewhere() string {
	if p, err := d.freeSubnet(); err == nil {
		return p
	}
	return "SUBNET"
}

// dialRoot connects to banger-root. Where the daemon is root it starts one
// itself; else only the CLI does, which can ask for a password.
func dialRoot(exe string) func(context.Context) (*client.Client, error) {
	uid, root, start := os.Geteuid(), host.New(rootPath(exe)), startRoot(exe, os.Getenv("PATH"))
	return func(ctx context.Context) (*client.Client, error) {
		c, err := client.Dial(ctx, uid)
		if uid == 0 && errors.Is(err, client.ErrAbsent) {
			if _, err := root.Run(ctx, host.Cmd{Tool: "banger-root", Dir: "/"}); err != nil {
				return nil, rootFailure(err)
			}
			c, err = client.Dial(ctx, uid)
		}
		if errors.Is(err, client.ErrAbsent) {
			err = banger.Errorf(banger.NeedsRoot, "%w", err).WithRemedy("start it: %s", start)
		}
		return c, err
	}
}

// startRoot is the command by which this user starts banger-root; path is where
// programs are looked for, sudo's own path being another.
func startRoot(exe, path string) string {
	program := ""
	for _, dir := range filepath.SplitList(rootPath(exe)) {
		if _, err := os.Stat(filepath.Join(dir, "banger-root")); err == nil {
			program = filepath.Join(dir, "banger-root")
			break
		}
	}
	if program == "" {
		return "sudo banger-root, once make build has made it"
	}
	for _, dir := range filepath.SplitList(path) {
		if _, err := os.Stat(filepath.Join(dir, "sudo")); err == nil {
			return "sudo " + program
		}
	}
	return fmt.Sprintf("as root, SUDO_UID=%d %s", os.Geteuid(), program)
}

// rootPath is where banger-root is looked for, in the order in which the CLI does.
func rootPath(exe string) string {
	bin := filepath.Dir(exe)
	return strings.Join([]string{bin, filepath.Join(filepath.Dir(bin), "lib", "banger"), "/usr/local/lib/banger"}, ":")
}

// newRouted is network mode routed.
func (d *daemon) newRouted(dial func(context.Context) (*client.Client, error)) *routed.Attacher {
	uid := uint32(os.Geteuid())
	return routed.New(routed.Config{
		Tag: d.tag, Subnet: d.net, Port: guestapi.Port,
		Dial: func(ctx context.Context) (routed.Root, error) {
			c, err := dial(ctx)
			if err != nil {
				return nil, err
			}
			return rootClient{c, c.Router()}, nil
		},
		Wanted:   d.wantedTaps,
		There:    func() ([]string, error) { return linksOf(uid, d.tag) },
		Gateway:  addr.GatewayName(uid, d.tag),
		Tap:      func(id banger.VMID) string { return addr.TapName(uid, d.tag, id) },
		MAC:      func(id banger.VMID) string { return addr.TapMAC(uid, d.tag, id) },
		Uplinks:  uplinks,
		Names:    d.names.forGuests,
		HostAsks: d.tellable,
		Log:      d.log,
	})
}

// rootClient is a connection to banger-root as the attacher sees it.
type rootClient struct {
	*client.Client
	network.Router
}

// wantedTaps are those of the VMs whose record has a run in mode routed.
func (d *daemon) wantedTaps(ctx context.Context) ([]network.Tap, error) {
	recs, err := d.store.VMs(ctx)
	if err != nil {
		return nil, err
	}
	var taps []network.Tap
	for _, r := range recs {
		if r.Run != nil && r.Spec.Network == banger.NetworkRouted {
			taps = append(taps, network.Tap{VM: r.ID, Addr: r.Lease.Addr, Isolated: r.Spec.Isolated, NAT: r.Spec.NAT != banger.NATOff, Allow: r.Spec.AllowHost})
		}
	}
	return taps, nil
}

// haveRun are the VMs whose record has a run: it comes before all that a run needs, and
// goes after.
func (d *daemon) haveRun(ctx context.Context) ([]banger.VMID, error) {
	recs, err := d.store.VMs(ctx)
	if err != nil {
		return nil, err
	}
	var ids []banger.VMID
	for _, r := range recs {
		if r.Run != nil {
			ids = append(ids, r.ID)
		}
	}
	return ids, nil
}

// linksOf are the names of the links that this user's installation tag has: taps,
// and the gateway's. Listing links needs no privilege.
func linksOf(uid uint32, tag string) ([]string, error) {
	links, err := netlink.LinkList()
	if err != nil {
		return nil, fmt.Errorf("list the host's links: %w", err)
	}
	var names []string
	for _, l := range links {
		if a := l.Attrs(); addr.IsLink(uid, tag, a.Name, a.Alias) {
			names = append(names, a.Name)
		}
	}
	return names, nil
}

// routes are the IPv4 networks that the host knows, in all tables, but for
// those of this installation's own links.
func routes(tag string) ([]netip.Prefix, error) {
	list, err := netlink.RouteListFiltered(netlink.FAMILY_V4, &netlink.Route{Table: unix.RT_TABLE_UNSPEC}, netlink.RT_FILTER_TABLE)
	if err != nil {
		return nil, fmt.Errorf("list the host's routes: %w", err)
	}
	links, err := netlink.LinkList()
	if err != nil {
		return nil, fmt.Errorf("list the host's links: %w", err)
	}
	own := map[int]bool{}
	for _, l := range links {
		a := l.Attrs()
		own[a.Index] = addr.IsLink(uint32(os.Geteuid()), tag, a.Name, a.Alias)
	}
	var taken []netip.Prefix
	for _, r := range list {
		if r.Dst == nil || own[r.LinkIndex] {
			continue
		}
		if a, ok := netip.AddrFromSlice(r.Dst.IP); ok {
			ones, _ := r.Dst.Mask.Size()
			taken = append(taken, netip.PrefixFrom(a.Unmap(), ones))
		}
	}
	return taken, nil
}

// Network implements handler.Daemon.
func (d *daemon) Network(ctx context.Context) (api.NetworkInfo, error) {
	taken, err := routes(d.tag)
	if err != nil {
		return api.NetworkInfo{}, err
	}
	pending, err := d.routed.Pending(ctx)
	if err != nil {
		return api.NetworkInfo{}, err
	}
	n := d.net()
	info := api.NetworkInfo{
		Subnet: n.Prefix.String(), Gateway: n.Gateway.String(), Resolver: n.Resolver.String(), Tag: d.tag,
		Overlaps: []string{}, Pending: append([]string{}, pending...),
	}
	for _, p := range addr.Overlaps(n.Prefix, taken) {
		info.Overlaps = append(info.Overlaps, p.String())
	}
	return info, nil
}

// MoveNetwork implements handler.Daemon.
func (d *daemon) MoveNetwork(ctx context.Context, to netip.Prefix) (api.NetworkInfo, error) {
	taken, err := routes(d.tag)
	if err != nil {
		return api.NetworkInfo{}, err
	}
	if err := addr.CheckSubnet(to, taken); err != nil {
		return api.NetworkInfo{}, err
	}
	from := d.net().Prefix
	err = d.store.MoveSubnet(ctx, to.String(),
		func(a netip.Addr) (netip.Addr, error) { return addr.Move(a, from, to) },
		func() { d.setNet(to) }) // inside the transaction: whoever leases next sees both
	if err != nil {
		d.setNet(from)
		return api.NetworkInfo{}, err
	}
	d.log.Info("moved to another subnet", "from", from, "to", to)
	return d.Network(ctx)
}
