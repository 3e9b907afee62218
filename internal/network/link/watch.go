package link

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// A Watcher listens for what takes away a part of a network: a link, route or
// address that goes, a sysctl that is set anew for all links (any write of
// ip_forward is one), a rule that is deleted.
type Watcher struct {
	conns []*netlink.Conn
	ended sync.WaitGroup
}

// Watch calls lost whenever something may have been taken away from any network
// of this namespace, whoever's it is: often for nothing, also for changes that a
// Router makes itself, and from several goroutines. It looks at nothing.
func Watch(lost func()) (*Watcher, error) {
	w := &Watcher{}
	for _, s := range []struct {
		family int
		groups []uint32
		loss   func(netlink.Message) bool
	}{
		{unix.NETLINK_ROUTE, []uint32{unix.RTNLGRP_LINK, unix.RTNLGRP_IPV4_IFADDR, unix.RTNLGRP_IPV4_ROUTE, unix.RTNLGRP_IPV4_NETCONF}, routeLost},
		{unix.NETLINK_NETFILTER, []uint32{unix.NFNLGRP_NFTABLES}, ruleLost},
	} {
		c, err := netlink.Dial(s.family, nil)
		if err != nil {
			w.Close()
			return nil, fmt.Errorf("open a netlink socket: %w", err)
		}
		w.conns = append(w.conns, c)
		for _, g := range s.groups {
			if err := c.JoinGroup(g); err != nil {
				w.Close()
				return nil, fmt.Errorf("listen for changes of the network: %w", err)
			}
		}
		w.ended.Go(func() { watch(c, s.loss, lost) })
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

func watch(c *netlink.Conn, loss func(netlink.Message) bool, lost func()) {
	for {
		msgs, err := c.Receive()
		switch {
		case errors.Is(err, unix.ENOBUFS):
			lost() // more than the socket holds: anything may be among it
		case err != nil && (errors.Is(err, os.ErrClosed) || errors.Is(err, net.ErrClosed) || errors.Is(err, unix.EBADF)):
			return
		case err != nil:
			lost()
			return
		}
		for _, m := range msgs {
			if loss(m) {
				lost()
				break
			}
		}
	}
}

// routeLost: the routes of a link that goes down go without a message.
func routeLost(m netlink.Message) bool {
	switch m.Header.Type {
	case unix.RTM_DELLINK, unix.RTM_DELADDR, unix.RTM_DELROUTE, unix.RTM_NEWNETCONF:
		return true
	case unix.RTM_NEWLINK:
		const flags = 8 // offset of ifi_flags
		return len(m.Data) >= flags+4 && binary.NativeEndian.Uint32(m.Data[flags:])&unix.IFF_UP == 0
	}
	return false
}

func ruleLost(m netlink.Message) bool {
	switch m.Header.Type & 0xff { // the subsystem is above
	case unix.NFT_MSG_DELTABLE, unix.NFT_MSG_DELCHAIN, unix.NFT_MSG_DELRULE, unix.NFT_MSG_DELSET, unix.NFT_MSG_DELSETELEM:
		return true
	}
	return false
}
