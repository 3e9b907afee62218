// Package proxy leads a port of the host to a VM, connection by connection: it listens,
// and connects to the guest as the host. A port is its program's as any program's, and
// free again as soon as that ends.
package proxy

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"banger"
	"banger/internal/network"
)

// What one published port may take.
const (
	maxStreams = 512              // TCP connections at a time; more wait to be accepted
	dialLimit  = 10 * time.Second // until the guest has accepted
)

// A Proxy is one published port. Make one with Listen.
type Proxy struct {
	log    *slog.Logger
	socket syscall.Conn

	ctx   context.Context // until Close
	stop  context.CancelFunc
	ended sync.WaitGroup
}

// Listen leads a port to the guest at that address. That it cannot be had is
// HostUnready with a remedy.
func Listen(port banger.Publish, to netip.Addr, log *slog.Logger) (*Proxy, error) {
	p := &Proxy{log: log}
	p.ctx, p.stop = context.WithCancel(context.Background())
	if err := p.listen(port, netip.AddrPortFrom(to, port.Guest)); err != nil {
		p.Close()
		return nil, network.PortError(port, err)
	}
	return p, nil
}

// Socket is what listens: bound to the port until Close.
func (p *Proxy) Socket() syscall.Conn { return p.socket }

// Close frees the port and ends what goes through them. It returns when nothing of p
// runs any more.
func (p *Proxy) Close() {
	p.stop()
	p.ended.Wait()
}

func (p *Proxy) listen(port banger.Publish, to netip.AddrPort) error {
	var lc net.ListenConfig
	if port.Proto == banger.UDP {
		pc, err := lc.ListenPacket(p.ctx, "udp4", port.Host.String())
		if err != nil {
			return err
		}
		p.socket = pc.(*net.UDPConn)
		p.until(pc)
		p.ended.Go(func() { p.datagrams(pc.(*net.UDPConn), to) })
		return nil
	}
	lc.SetMultipathTCP(false) // whose sockets banger-root takes for no port
	l, err := lc.Listen(p.ctx, "tcp4", port.Host.String())
	if err != nil {
		return err
	}
	p.socket = l.(*net.TCPListener)
	p.until(l)
	p.ended.Go(func() { p.streams(l, to) })
	return nil
}

// until closes c when p is closed, which waits for that: then the port is free.
func (p *Proxy) until(c io.Closer) {
	p.ended.Add(1)
	context.AfterFunc(p.ctx, func() {
		defer p.ended.Done()
		c.Close()
	})
}

// streams leads connections until the listener is closed.
func (p *Proxy) streams(l net.Listener, to netip.AddrPort) {
	places := make(chan struct{}, maxStreams)
	for {
		select {
		case places <- struct{}{}:
		case <-p.ctx.Done():
			return
		}
		c, err := l.Accept()
		if err == nil {
			p.ended.Go(func() {
				defer func() { <-places }()
				p.stream(c, to)
			})
			continue
		}
		<-places
		if p.ctx.Err() != nil {
			return
		}
		// Out of descriptors, or the like: others end meanwhile.
		p.log.Warn("accept a connection to a published port", "listen", l.Addr(), "err", err)
		select {
		case <-time.After(time.Second):
		case <-p.ctx.Done():
			return
		}
	}
}

// stream joins c and a new connection to the guest, until both directions have ended.
// What cannot be joined is reset, as by a host where nobody listens.
func (p *Proxy) stream(c net.Conn, to netip.AddrPort) {
	defer c.Close()
	d := net.Dialer{Timeout: dialLimit}
	g, err := d.DialContext(p.ctx, "tcp4", to.String())
	if err != nil {
		p.log.Debug("reach a published port", "to", to, "err", err)
		reset(c)
		return
	}
	defer g.Close()
	defer context.AfterFunc(p.ctx, func() { c.Close(); g.Close() })()
	var both sync.WaitGroup
	both.Go(func() { carry(g, c) })
	carry(c, g)
	both.Wait()
}

// carry copies until from ends, which it tells to; where from breaks off, to does.
func carry(to, from net.Conn) {
	if _, err := io.Copy(to, from); err != nil && !errors.Is(err, net.ErrClosed) {
		reset(to)
		to.Close()
		from.Close()
		return
	}
	if w, ok := to.(interface{ CloseWrite() error }); ok {
		_ = w.CloseWrite() // it has ended already
	}
}

// reset has c end with a reset when it is closed.
func reset(c net.Conn) {
	if t, ok := c.(*net.TCPConn); ok {
		_ = t.SetLinger(0) // closed already
	}
}
