package main

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"banger"
	"banger/internal/network"
	"banger/internal/network/addr"
	"banger/internal/network/link"
	"banger/test/netns"
	"banger/test/sandbox"
)

const (
	nics      = 50
	setRounds = 10
	setUID    = 65534
	setTag    = "beef"
)

// sets measures what a network of many routed VMs costs to make and to look
// after, in a network namespace: all of it against the same by a script of ip(8),
// sysctl(8) and nft(8), and what changes little or nothing against all of it.
func (b *bench) sets(ctx context.Context) ([]row, error) {
	what := fmt.Sprintf("Router.Set, %d NICs", nics)
	if os.Geteuid() != 0 {
		return []row{notMeasured(what, "needs root")}, nil
	}
	progress("Router.Set")
	var first, again, oneNew, byHand []float64
	err := netns.Run(func() error {
		r := link.New(setUID)
		all := desired(nics)
		set := func(c network.Config, into *[]float64) error {
			s, err := timed(func() error { _, err := r.Apply(c); return err })
			if into != nil {
				*into = append(*into, s)
			}
			return err
		}
		for range setRounds {
			for _, step := range []struct {
				nics int
				into *[]float64
			}{{nics, &first}, {nics, &again}, {nics - 1, nil}, {nics, &oneNew}, {0, nil}} {
				c := all
				c.Taps = all.Taps[:step.nics]
				if err := set(c, step.into); err != nil {
					return err
				}
			}
			s, err := timed(func() error { return netByHand(ctx, all) })
			if err != nil {
				return err
			}
			byHand = append(byHand, s)
			if err := set(network.Config{Tag: all.Tag, Subnet: all.Subnet}, nil); err != nil { // takes the script's away, too
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	const full = "the first one"
	return []row{
		ratio(what, first, "the same by ip, sysctl and nft", byHand, 0),
		ratio(what+", nothing changed", again, full, first, 0),
		ratio(what+", one of them new", oneNew, full, first, 0),
	}, nil
}

// desired is the network of n VMs.
func desired(n int) network.Config {
	c := network.Config{Tag: setTag, Subnet: netip.MustParsePrefix("10.77.16.0/20")}
	a := c.Subnet.Addr().Next()
	for i := range n {
		a = a.Next()
		c.Taps = append(c.Taps, network.Tap{VM: banger.VMID(fmt.Sprintf("%08x", i)), Addr: a})
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
	cmd := exec.CommandContext(ctx, filepath.Join(sandbox.Root(), "test", "bench", "netbyhand.sh"),
		fmt.Sprintf("banger_%d_%s", setUID, c.Tag), fmt.Sprint(setUID),
		addr.GatewayName(setUID, c.Tag), addr.GatewayMAC(setUID, c.Tag), alias+"gateway subnet="+c.Subnet.String(), network.SubnetOf(c.Subnet).Gateway.String())
	cmd.Stdin = strings.NewReader(taps.String())
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("netbyhand.sh: %w: %s", err, out)
	}
	return nil
}
