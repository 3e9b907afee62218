package proxy

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/net/ipv4"
	"golang.org/x/sys/unix"
)

// What a published UDP port may take.
const (
	maxTalks   = 256              // at a time: one more is dropped
	silence    = 60 * time.Second // after which one has ended; the kernel's own NAT says 30 to 120
	longestUDP = 65535            // bytes
)

// A talk is what one client sends to one address of the host's.
type talk struct {
	client netip.AddrPort
	host   netip.Addr
}

// A relay is one UDP port.
type relay struct {
	p    *Proxy
	conn *ipv4.PacketConn
	to   netip.AddrPort

	mu    sync.Mutex
	talks map[talk]*net.UDPConn // to the guest
}

// datagrams leads datagrams, and the answers back, until pc is closed.
func (p *Proxy) datagrams(pc *net.UDPConn, to netip.AddrPort) {
	r := &relay{p: p, conn: ipv4.NewPacketConn(pc), to: to, talks: map[talk]*net.UDPConn{}}
	// On a port of all addresses, an answer must come from the one that was asked.
	if err := r.conn.SetControlMessage(ipv4.FlagDst, true); err != nil {
		p.log.Warn("answers by UDP may come from another address than was asked", "err", err)
	}
	b := make([]byte, longestUDP)
	for {
		n, cm, from, err := r.conn.ReadFrom(b)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue // an ICMP error about an answer
		}
		t := talk{client: from.(*net.UDPAddr).AddrPort()}
		if cm != nil {
			t.host, _ = netip.AddrFromSlice(cm.Dst)
		}
		if g := r.guest(t); g != nil {
			_ = g.SetReadDeadline(time.Now().Add(silence))
			_, _ = g.Write(b[:n]) // as on any link, it may be lost
		}
	}
}

// guest is the socket of a talk, a new one where there is none, nil where there are
// too many.
func (r *relay) guest(t talk) *net.UDPConn {
	r.mu.Lock()
	defer r.mu.Unlock()
	if g := r.talks[t]; g != nil {
		return g
	}
	if len(r.talks) >= maxTalks {
		return nil
	}
	g, err := net.DialUDP("udp4", nil, net.UDPAddrFromAddrPort(r.to))
	if err != nil {
		r.p.log.Debug("reach a published port", "to", r.to, "err", err)
		return nil
	}
	r.talks[t] = g
	r.p.ended.Go(func() { r.answer(t, g) })
	return g
}

// answer sends on what the guest answers, until it and its client are silent.
func (r *relay) answer(t talk, g *net.UDPConn) {
	defer context.AfterFunc(r.p.ctx, func() { g.Close() })()
	defer func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		delete(r.talks, t)
		g.Close()
	}()
	b := make([]byte, longestUDP)
	for {
		n, err := g.Read(b)
		if errors.Is(err, unix.ECONNREFUSED) {
			continue // nobody listens yet: the deadline is the client's last word
		}
		if err != nil {
			return
		}
		_ = g.SetReadDeadline(time.Now().Add(silence))
		var cm *ipv4.ControlMessage
		if t.host.IsValid() {
			cm = &ipv4.ControlMessage{Src: t.host.AsSlice()}
		}
		_, _ = r.conn.WriteTo(b[:n], cm, net.UDPAddrFromAddrPort(t.client))
	}
}
