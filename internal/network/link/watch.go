package link

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// A Watcher listens for what takes away a part of a network: a link, route or
// address that goes, a sysctl that is set anew for all links (any write of
// ip_forward is one), a rule that is deleted; and for new ways out to the world,
// and new chains and rules of others, that drop what they do not know.
type Watcher struct {
	conns []*netlink.Conn
	ended sync.WaitGroup
}

const nft = unix.NFNL_SUBSYS_NFTABLES << 8

// losses are the messages that tell of one. The routes of a link that goes down
// go without any: see lost.
var losses = []netlink.HeaderType{
	unix.RTM_DELLINK, unix.RTM_DELADDR, unix.RTM_DELROUTE, unix.RTM_NEWNETCONF,
	nft | unix.NFT_MSG_DELTABLE, nft | unix.NFT_MSG_DELCHAIN, nft | unix.NFT_MSG_DELRULE, nft | unix.NFT_MSG_DELSET, nft | unix.NFT_MSG_DELSETELEM,
	nft | unix.NFT_MSG_NEWCHAIN, // perhaps a passage
	nft | unix.NFT_MSG_NEWRULE,  // perhaps of a firewall, in a chain that was there
}

// Watch calls lost whenever something may have been taken away from any network
// of this namespace, whoever's it is: often for nothing, also for changes that a
// Router makes itself, and from several goroutines. It looks at nothing.
func Watch(lost func()) (w *Watcher, err error) {
	w = &Watcher{}
	for family, groups := range map[int][]uint32{
		unix.NETLINK_ROUTE:     {unix.RTNLGRP_LINK, unix.RTNLGRP_IPV4_IFADDR, unix.RTNLGRP_IPV4_ROUTE, unix.RTNLGRP_IPV4_NETCONF},
		unix.NETLINK_NETFILTER: {unix.NFNLGRP_NFTABLES},
	} {
		c, err := netlink.Dial(family, nil)
		if err == nil {
			w.conns = append(w.conns, c)
			w.ended.Go(func() { watch(c, lost) })
		}
		for _, g := range groups {
			if err == nil {
				err = c.JoinGroup(g)
			}
		}
		if err != nil {
			w.Close()
			return nil, fmt.Errorf("listen for changes of the network: %w", err)
		}
	}
	return w, nil
}

// Close ends the calls.
func (w *Watcher) Close() {
	for _, c := range w.conns {
		c.Close()
	}
	w.ended.Wait()
}

func watch(c *netlink.Conn, lost func()) {
	for {
		msgs, err := c.Receive()
		if err != nil && !errors.Is(err, unix.ENOBUFS) {
			return // closed
		}
		// ENOBUFS: more than the socket holds, and anything may be among it.
		if err != nil || slices.ContainsFunc(msgs, isLoss) {
			lost()
		}
	}
}

func isLoss(m netlink.Message) bool {
	const flags, length = 8, 1 // offsets of ifi_flags and rtm_dst_len
	down := m.Header.Type == unix.RTM_NEWLINK && len(m.Data) >= flags+4 && binary.NativeEndian.Uint32(m.Data[flags:])&unix.IFF_UP == 0
	wayOut := m.Header.Type == unix.RTM_NEWROUTE && len(m.Data) > length && m.Data[length] < worldly
	return down || wayOut || slices.Contains(losses, m.Header.Type)
}
