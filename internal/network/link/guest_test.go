package link_test

import (
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"os"
	"sync"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"banger/internal/network"
	"banger/internal/network/addr"
	"banger/test/netns"
)

// A guest is a network stack of the kernel's own behind a tap: a namespace with
// an eth0 as banger-guest sets it up, and a cable between the two.
type guest struct {
	*netns.Thread
	tap network.Tap
}

// plug attaches a guest to the tap of t, which is there, and whose owner need
// not be asked: the test is root.
func plug(t *testing.T, tp network.Tap) guest {
	t.Helper()
	return plugInto(t, tag, gateway, tp)
}

// plugInto is plug for a tap of that installation.
func plugInto(t *testing.T, tag string, gateway netip.Addr, tp network.Tap) guest {
	t.Helper()
	return plugOf(t, uid, tag, gateway, tp)
}

// plugOf is plugInto for one of another user's.
func plugOf(t *testing.T, uid uint32, tag string, gateway netip.Addr, tp network.Tap) guest {
	t.Helper()
	g := guest{netns.New(t), tp}
	near := openTap(t, addr.TapName(uid, tag, tp.VM))
	var far *os.File
	g.Do(func() {
		far = openTap(t, "eth0")
		l := must(netlink.LinkByName("eth0"))
		must(0, netlink.LinkSetHardwareAddr(l, net.HardwareAddr{2, 0, 0, 0, 0, 7}))
		must(0, netlink.AddrAdd(l, &netlink.Addr{IPNet: &net.IPNet{IP: tp.Addr.AsSlice(), Mask: net.CIDRMask(32, 32)}}))
		must(0, netlink.LinkSetUp(l))
		mac := must(net.ParseMAC(addr.TapMAC(uid, tag, tp.VM)))
		must(0, netlink.NeighSet(&netlink.Neigh{LinkIndex: l.Attrs().Index, State: unix.NUD_PERMANENT, IP: gateway.AsSlice(), HardwareAddr: mac}))
		must(0, netlink.RouteAdd(&netlink.Route{LinkIndex: l.Attrs().Index, Gw: gateway.AsSlice(), Flags: int(netlink.FLAG_ONLINK)}))
	})
	var cables sync.WaitGroup
	cable := func(from, to *os.File) {
		defer cables.Done()
		b := make([]byte, 65536)
		for {
			n, err := from.Read(b)
			if err != nil {
				return
			}
			if _, err := to.Write(b[:n]); errors.Is(err, os.ErrClosed) {
				return
			}
		}
	}
	cables.Add(2)
	go cable(near, far)
	go cable(far, near)
	t.Cleanup(func() { near.Close(); far.Close(); cables.Wait() })
	return g
}

func openTap(t *testing.T, name string) *os.File {
	fd := must(unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0))
	r := must(unix.NewIfreq(name))
	r.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI)
	must(0, unix.IoctlIfreq(fd, unix.TUNSETIFF, r))
	return os.NewFile(uintptr(fd), name)
}

// in runs f in the guest, or right here for a nil guest: the host.
func (g *guest) in(f func()) {
	if g == nil {
		f()
		return
	}
	g.Do(f)
}

// udp returns a socket that is bound to a port of every address, or to one
// source address. It is closed with the test.
func (g *guest) udp(t *testing.T, port int, source netip.Addr) (fd int) {
	g.in(func() {
		fd = must(unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0))
		must(0, unix.SetsockoptInt(fd, unix.SOL_IP, unix.IP_TRANSPARENT, 1)) // any source, as a hostile guest may
		must(0, unix.Bind(fd, sockaddr(source, port)))
	})
	t.Cleanup(func() { unix.Close(fd) })
	return fd
}

func sockaddr(a netip.Addr, port int) *unix.SockaddrInet4 {
	sa := &unix.SockaddrInet4{Port: port}
	if a.Is4() {
		sa.Addr = a.As4()
	}
	return sa
}

// received takes what has arrived at a socket, "" if nothing has.
func received(fd int) string {
	b := make([]byte, 1500)
	n, _, err := unix.Recvfrom(fd, b, unix.MSG_DONTWAIT)
	if err != nil {
		return ""
	}
	return string(b[:n])
}

// ping sends one echo request and waits up to 10 s for its answer: what went
// the same way before it has arrived by then.
func (g *guest) ping(to netip.Addr) (answered bool) {
	g.in(func() {
		fd := must(unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_ICMP))
		defer unix.Close(fd)
		must(0, unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 10}))
		must(0, unix.Sendto(fd, echo(), 0, sockaddr(to, 0)))
		b := make([]byte, 1500)
		for {
			n, from, err := unix.Recvfrom(fd, b, 0)
			if err != nil {
				return
			}
			sa := from.(*unix.SockaddrInet4)
			if n >= 28 && b[20] == 0 && netip.AddrFrom4(sa.Addr) == to {
				answered = true
				return
			}
		}
	})
	return answered
}

// echo is an ICMP echo request with its checksum.
func echo() []byte {
	b := []byte{8, 0, 0, 0, 0, 1, 0, 1}
	binary.BigEndian.PutUint16(b[2:], ^uint16(0x0800+0x0001+0x0001))
	return b
}
