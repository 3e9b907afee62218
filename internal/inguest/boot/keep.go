package boot

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"slices"
	"syscall"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"banger/internal/guestapi"
)

// A keeper puts eth0's address, neighbour and route back when something of the
// image's takes them away: a DHCP client that a script starts flushes them, and
// then hears nobody.
type keeper struct {
	id guestapi.Identity
	// first is how long a loss lasts: whoever is at work on the link is to be
	// done with it. Each loss within calm of the one before lasts for twice as
	// long as that one; after one of most it gives up.
	first, most, calm time.Duration
}

var errFought = errors.New("something in this VM takes its address away again and again; it is not put back any more")

// keep returns only with an error.
func (k keeper) keep() error {
	s, err := nl.Subscribe(unix.NETLINK_ROUTE, unix.RTNLGRP_LINK, unix.RTNLGRP_IPV4_IFADDR, unix.RTNLGRP_IPV4_ROUTE)
	if err != nil {
		return fmt.Errorf("listen for changes of the network: %w", err)
	}
	defer s.Close()
	lost := make(chan struct{}, 1)
	lost <- struct{}{} // something may have gone before this listened
	go listen(s, lost)
	pause, before := k.first, time.Time{}
	for range lost {
		if time.Since(before) > k.calm {
			pause = k.first
		}
		time.Sleep(min(pause, k.most))
		if k.whole() {
			continue
		}
		if pause > k.most {
			return errFought
		}
		report("the network of " + linkName + " is gone, putting it back")
		if err := setUpNetwork(k.id); err != nil {
			report(fmt.Sprintf("set up network: %v", err))
			poke(lost)
		}
		pause, before = 2*pause, time.Now()
	}
	return nil // cannot be: lost is never closed
}

// listen pokes lost when something may have been taken away, until s is closed.
func listen(s *nl.NetlinkSocket, lost chan<- struct{}) {
	for {
		msgs, _, err := s.Receive()
		if err != nil && !errors.Is(err, unix.ENOBUFS) {
			return
		}
		// ENOBUFS: more than the socket holds, and anything may be among it.
		if err != nil || slices.ContainsFunc(msgs, isLoss) {
			poke(lost)
		}
	}
}

func isLoss(m syscall.NetlinkMessage) bool {
	switch m.Header.Type {
	case unix.RTM_DELLINK, unix.RTM_DELADDR, unix.RTM_DELROUTE:
		return true
	case unix.RTM_NEWLINK: // the routes of a link that goes down go without a message
		const flags = 8 // offset of ifi_flags
		return len(m.Data) >= flags+4 && binary.NativeEndian.Uint32(m.Data[flags:])&unix.IFF_UP == 0
	}
	return false
}

func poke(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// whole reports whether all that setUpNetwork makes is there. What cannot be
// read is not.
func (k keeper) whole() bool {
	link, err := netlink.LinkByName(linkName)
	if err != nil || link.Attrs().Flags&net.FlagUp == 0 {
		return false
	}
	addrs, err := netlink.AddrList(link, unix.AF_INET)
	own := func(a netlink.Addr) bool { return a.IPNet.String() == k.id.Address.String() }
	if err != nil || !slices.ContainsFunc(addrs, own) {
		return false
	}
	neighbours, err := netlink.NeighList(link.Attrs().Index, unix.AF_INET)
	gateway := func(n netlink.Neigh) bool {
		return n.IP.String() == k.id.Gateway.String() && n.State == unix.NUD_PERMANENT
	}
	if err != nil || k.id.GatewayMAC != "" && !slices.ContainsFunc(neighbours, gateway) {
		return false
	}
	return hasDefaultRoute()
}

// hasDefaultRoute reports whether there is one, whoever's it is: a VPN's in the
// place of ours is the user's choice.
func hasDefaultRoute() bool {
	routes, err := netlink.RouteList(nil, unix.AF_INET)
	return err == nil && slices.ContainsFunc(routes, func(r netlink.Route) bool {
		if r.Dst == nil {
			return true
		}
		ones, _ := r.Dst.Mask.Size()
		return ones == 0
	})
}
