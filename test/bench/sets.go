package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/vishvananda/netlink"

	"banger"
	"banger/internal/network"
	"banger/internal/network/addr"
	"banger/internal/network/link"
	"banger/test/netns"
	"banger/test/sandbox"
)

const (
	nics      = 50
	fewNICs   = 10
	manyNICs  = 200
	setRounds = 10
	setUID    = 65534
	setTag    = "beef"
	setNames  = 20053 // where guests' questions are led
	setUplink = "up0"
)

// setSamples are what a child says of Router.Set, seconds.
type setSamples struct {
	First, ByHand []float64
	Again, OneNew map[int][]float64 // by number of NICs
}

// sets measures what a network of many routed VMs costs to make and to look
// after, in a network namespace: all of it against the same by a script of ip(8),
// sysctl(8) and nft(8), what changes little or nothing against all of it, and many
// against few.
func (b *bench) sets(ctx context.Context) ([]row, error) {
	what := fmt.Sprintf("Router.Set, %d NICs", nics)
	if os.Geteuid() != 0 {
		return []row{notMeasured(what, "needs root")}, nil
	}
	progress("Router.Set")
	var s setSamples
	// A process of its own, all of which is in the namespace: goroutines that are bound
	// to a thread, as netns.Run has them, wait twice as long for the kernel's answers as
	// banger-root's do.
	err := netns.Run(func() error {
		cmd := exec.CommandContext(ctx, "/proc/self/exe", "-child", "sets")
		cmd.Stderr = os.Stderr
		out, err := cmd.Output()
		if err != nil {
			return err
		}
		return json.Unmarshal(out, &s)
	})
	if err != nil {
		return nil, err
	}
	const full = "the first one"
	few := fmt.Sprintf("the same with %d", fewNICs)
	return []row{
		ratio(what, s.First, "the same by ip, sysctl and nft", s.ByHand, 0),
		limited(what+", nothing changed", s.Again[nics], 0.005),
		ratio(what+", nothing changed", s.Again[nics], full, s.First, 0),
		ratio(what+", one of them new", s.OneNew[nics], full, s.First, 0),
		ratio(fmt.Sprintf("Router.Set, %d NICs, nothing changed", manyNICs), s.Again[manyNICs], few, s.Again[fewNICs], 3),
		ratio(fmt.Sprintf("Router.Set, %d NICs, one of them new", manyNICs), s.OneNew[manyNICs], few, s.OneNew[fewNICs], 3),
	}, nil
}

// measureSets is the child.
func measureSets(ctx context.Context) error {
	if err := addUplink(); err != nil {
		return err
	}
	s := setSamples{Again: map[int][]float64{}, OneNew: map[int][]float64{}}
	for range setRounds {
		for _, n := range []int{fewNICs, nics, manyNICs} {
			if err := s.round(n); err != nil {
				return err
			}
		}
		t, err := timed(func() error { return netByHand(ctx, desired(nics)) })
		if err != nil {
			return err
		}
		s.ByHand = append(s.ByHand, t)
		if _, err := link.New(setUID).Apply(desired(0)); err != nil { // takes the script's away, too
			return err
		}
	}
	return json.NewEncoder(os.Stdout).Encode(s)
}

// round sets a network of n NICs up, twice, lacking the last and with it, and down.
func (s *setSamples) round(n int) error {
	r := link.New(setUID)
	for _, step := range []struct {
		nics int
		into func(float64)
	}{
		{n, func(t float64) {
			if n == nics {
				s.First = append(s.First, t)
			}
		}},
		{n, func(t float64) { s.Again[n] = append(s.Again[n], t) }},
		{n - 1, func(float64) {}},
		{n, func(t float64) { s.OneNew[n] = append(s.OneNew[n], t) }},
		{0, func(float64) {}},
	} {
		c := desired(step.nics)
		t, err := timed(func() error { _, err := r.Apply(c); return err })
		if err != nil {
			return err
		}
		step.into(t)
	}
	return nil
}

// addUplink gives the namespace a way out to the world, on which nothing is forwarded.
func addUplink() error {
	a := netlink.NewLinkAttrs()
	a.Name = setUplink
	if err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: a, PeerName: "world0"}); err != nil {
		return err
	}
	var index int
	for _, name := range []string{"world0", setUplink} {
		l, err := netlink.LinkByName(name)
		if err != nil {
			return err
		}
		if err := netlink.LinkSetUp(l); err != nil {
			return err
		}
		index = l.Attrs().Index
	}
	host := &net.IPNet{IP: net.IPv4(192, 0, 2, 1), Mask: net.CIDRMask(24, 32)}
	err := netlink.AddrAdd(&netlink.Dummy{LinkAttrs: netlink.LinkAttrs{Index: index}}, &netlink.Addr{IPNet: host})
	return errors.Join(err, netlink.RouteAdd(&netlink.Route{LinkIndex: index, Gw: net.IPv4(192, 0, 2, 2)}))
}

// desired is the network of n VMs.
func desired(n int) network.Config {
	c := network.Config{Tag: setTag, Subnet: netip.MustParsePrefix("10.77.16.0/20"), Names: setNames}
	a := network.SubnetOf(c.Subnet).Resolver
	for i := range n {
		a = a.Next()
		c.Taps = append(c.Taps, network.Tap{VM: banger.VMID(fmt.Sprintf("%08x", i)), Addr: a, NAT: true})
	}
	return c
}

// netByHand makes a network by a script, which reads a line per tap: its name,
// Ethernet address, alias and VM's address.
func netByHand(ctx context.Context, c network.Config) error {
	alias := fmt.Sprintf("banger uid=%d tag=%s ", setUID, c.Tag)
	var taps strings.Builder
	for _, t := range c.Taps {
		fmt.Fprintf(&taps, "%s|%s|%svm=%s address=%s|%s\n", addr.TapName(setUID, c.Tag, t.VM), addr.TapMAC(setUID, c.Tag, t.VM), alias, t.VM, t.Addr, t.Addr)
	}
	uplink, err := netlink.LinkByName(setUplink)
	if err != nil {
		return err
	}
	in := network.SubnetOf(c.Subnet)
	cmd := exec.CommandContext(ctx, filepath.Join(sandbox.Root(), "test", "bench", "netbyhand.sh"),
		fmt.Sprintf("banger_%d_%s", setUID, c.Tag), fmt.Sprint(setUID),
		addr.GatewayName(setUID, c.Tag), addr.GatewayMAC(setUID, c.Tag), alias+"gateway subnet="+c.Subnet.String(),
		in.Gateway.String(), in.Resolver.String(), c.Subnet.String(), fmt.Sprint(c.Names), setUplink, fmt.Sprintf("banger_%d_%s_%d", setUID, c.Tag, uplink.Attrs().Index))
	cmd.Stdin = strings.NewReader(taps.String())
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("netbyhand.sh: %w: %s", err, out)
	}
	return nil
}
