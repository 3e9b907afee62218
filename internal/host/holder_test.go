package host_test

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"

	"banger/internal/host"
)

// Who has a port is named, by TCP and by UDP; one that is free has nobody.
func TestHolder(t *testing.T) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	pc, err := net.ListenPacket("udp4", "0.0.0.0:0")
	if err != nil {
		t.Fatal(err)
	}
	defer pc.Close()
	tcp := l.Addr().(*net.TCPAddr).AddrPort()
	udp := netip.AddrPortFrom(tcp.Addr(), pc.LocalAddr().(*net.UDPAddr).AddrPort().Port())
	self := fmt.Sprintf("(process %d)", os.Getpid())
	for _, at := range []netip.AddrPort{tcp, udp} {
		if got := host.Holder(at); !strings.HasSuffix(got, self) || strings.HasPrefix(got, " ") {
			t.Errorf("%s is held by %q, want %s", at, got, self)
		}
	}
	if got := host.Holder(netip.AddrPortFrom(netip.MustParseAddr("127.0.0.2"), tcp.Port())); got != "" {
		t.Errorf("another address: %q", got)
	}
	l.Close()
	if got := host.Holder(tcp); got != "" {
		t.Errorf("a free port: %q", got)
	}
}
