package e2e

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"testing"

	"github.com/miekg/dns"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"banger/test/netns"
)

// A space is where commands run: a network namespace of the test's own; nil is
// the test's own.
type space struct{ *netns.Thread }

// do runs f in there; what it starts is in there, too.
func (s *space) do(f func() error) (err error) {
	if s == nil {
		return f()
	}
	s.Do(func() { err = f() })
	return err
}

const (
	hostAddr    = "198.51.100.1"
	outsideAddr = "198.51.100.2"
)

// newHost makes a host with an address, and an outside behind its default route.
func newHost(t *testing.T) (host, outside *space) {
	t.Helper()
	host, outside = &space{netns.New(t)}, &space{netns.New(t)}
	var there *os.File
	err := outside.do(func() (err error) {
		there, err = os.Open("/proc/thread-self/ns/net")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	defer there.Close()
	err = host.do(func() error {
		link := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "up0"}, PeerName: "down0", PeerNamespace: netlink.NsFd(there.Fd())}
		if err := netlink.LinkAdd(link); err != nil {
			return err
		}
		return setUp("up0", hostAddr, outsideAddr)
	})
	if err == nil {
		err = outside.do(func() error { return setUp("down0", outsideAddr, "") })
	}
	if err != nil {
		t.Fatalf("make a host: %v", err)
	}
	return host, outside
}

func setUp(name, addr, gateway string) error {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return err
	}
	a, err := netlink.ParseAddr(addr + "/24")
	if err != nil {
		return err
	}
	if err := errors.Join(netlink.AddrAdd(link, a), netlink.LinkSetUp(link)); err != nil || gateway == "" {
		return err
	}
	return netlink.RouteAdd(&netlink.Route{LinkIndex: link.Attrs().Index, Gw: net.ParseIP(gateway)})
}

// names gives the host a resolver where systemd-resolved has its own: it knows what
// resolve does, and is the one that programs of the host ask.
func (s *space) names(t *testing.T) {
	t.Helper()
	const at = "127.0.0.53"
	conf := filepath.Join(t.TempDir(), "resolv.conf")
	var pc net.PacketConn
	err := os.WriteFile(conf, []byte("nameserver "+at+"\n"), 0o644)
	if err == nil {
		err = s.do(func() (err error) {
			if pc, err = net.ListenPacket("udp4", at+":53"); err != nil {
				return err
			}
			return unix.Mount(conf, "/etc/resolv.conf", "", unix.MS_BIND, "") // in its own namespace
		})
	}
	if err != nil {
		t.Fatalf("give the host a resolver: %v", err)
	}
	t.Cleanup(func() { pc.Close() })
	go (&dns.Server{PacketConn: pc, Handler: dns.HandlerFunc(resolve)}).ActivateAndServe()
}

// greet answers every connection to addr, by TCP and UDP, with word, until the
// test ends, and returns the port.
func (s *space) greet(t *testing.T, addr, word string) (port int) {
	t.Helper()
	var tcp net.Listener
	var udp net.PacketConn
	err := s.do(func() (err error) {
		if tcp, err = net.Listen("tcp4", addr+":0"); err != nil {
			return err
		}
		port = tcp.Addr().(*net.TCPAddr).Port
		udp, err = net.ListenPacket("udp4", fmt.Sprintf("%s:%d", addr, port))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tcp.Close(); udp.Close() })
	go func() {
		for {
			c, err := tcp.Accept()
			if err != nil {
				return
			}
			_, _ = io.WriteString(c, word+"\n") // the guest's end says whether it came
			c.Close()
		}
	}()
	go func() {
		b := make([]byte, 1)
		for {
			_, from, err := udp.ReadFrom(b)
			if err != nil {
				return
			}
			_, _ = udp.WriteTo([]byte(word+"\n"), from)
		}
	}()
	return port
}

// ask connects to a port of the host from within it and returns what is said.
func (s *space) ask(network string, port int) (said string, err error) {
	err = s.do(func() error {
		c, err := net.Dial(network, fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			return err
		}
		defer c.Close()
		if err := c.SetDeadline(deadline()); err != nil {
			return err
		}
		if _, err := io.WriteString(c, "hello\n"); err != nil {
			return err
		}
		b := make([]byte, 64)
		n, err := c.Read(b)
		said = string(b[:n])
		return err
	})
	return said, err
}
