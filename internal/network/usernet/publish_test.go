package usernet_test

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"

	"banger"
	"banger/internal/network/usernet"
)

// A port that another program has is an error before anything is started, on
// both stacks; so is an address that the host has not.
func TestPortsThatAreNotFree(t *testing.T) {
	b := newBench(t)
	tcp, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer tcp.Close()
	udp, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer udp.Close()
	taken := tcp.Addr().(*net.TCPAddr).Port
	for publish, word := range map[string]string{
		fmt.Sprintf("%d:80", taken):                                   "another program listens",
		fmt.Sprintf("0.0.0.0:%d:80", taken):                           "another program listens",
		fmt.Sprintf("%d:53/udp", udp.LocalAddr().(*net.UDPAddr).Port): "another program listens",
		fmt.Sprintf("203.0.113.77:%d:80", free(t)):                    "the host has no address 203.0.113.77",
	} {
		for _, stack := range []string{usernet.StackAuto, usernet.StackQEMU} {
			a, n := b.daemon(stack), b.nic(1, publish)
			_, err := a.Attach(t.Context(), n, nil)
			if e := banger.AsError(err); e == nil || e.Code != banger.HostUnready || !strings.Contains(e.Message, word) || e.Remedy == "" {
				t.Errorf("%s, %s: %+v", stack, publish, e)
			}
			detach(t, a, n)
			b.nothing(n.VM)
		}
	}
}

func TestPrivilegedPorts(t *testing.T) {
	text, err := os.ReadFile("/proc/sys/net/ipv4/ip_unprivileged_port_start")
	if err != nil || strings.TrimSpace(string(text)) != "1024" {
		t.Skipf("this host's unprivileged ports begin at %s", text)
	}
	a := usernet.New(usernet.Config{})
	for port, ok := range map[uint16]bool{80: false, 1023: false, 1024: true, 8080: true} {
		p := banger.Publish{Host: netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), port), Guest: 80, Proto: banger.TCP}
		if err := a.CheckPublish([]banger.Publish{p}, false); (err == nil) != ok || err != nil && banger.AsError(err).Remedy == "" {
			t.Errorf("%d: %v", port, err)
		}
	}
}

func TestIsolatedAnswersNoUDP(t *testing.T) {
	a := usernet.New(usernet.Config{})
	p := banger.Publish{Host: netip.MustParseAddrPort("127.0.0.1:8080"), Guest: 80, Proto: banger.UDP}
	if err := a.CheckPublish([]banger.Publish{p}, true); banger.CodeOf(err) != banger.Invalid {
		t.Errorf("by UDP: %v", err)
	}
	p.Proto = banger.TCP
	if err := a.CheckPublish([]banger.Publish{p}, true); err != nil {
		t.Errorf("by TCP: %v", err)
	}
}

// The port of the guest program is none that the VM publishes.
func TestOwnPortIsNotPublished(t *testing.T) {
	a := usernet.NewWith(func(netip.AddrPort) bool { return true }, 20000, 20001)
	n := nic(1)
	n.Publish = []banger.Publish{{Host: netip.MustParseAddrPort("0.0.0.0:20000"), Guest: 80, Proto: banger.TCP}}
	if ep := attach(t, a, n, nil); ep.SSH.Port() != 20001 {
		t.Errorf("it got %s", ep.SSH)
	}
}

// What was recorded before stacks had names is kept.
func TestEndpointOfAnOlderDaemon(t *testing.T) {
	a, n := usernet.New(usernet.Config{}), nic(1)
	old := banger.Endpoint{SSH: netip.MustParseAddrPort("127.0.0.1:23456"), User: &banger.UserNet{
		Subnet: n.Net.Prefix, Gateway: n.Net.Gateway, Resolver: n.Net.Resolver}}
	if ep := attach(t, a, n, &old); ep.SSH != old.SSH || ep.Stack != usernet.StackQEMU {
		t.Errorf("%+v", ep)
	}
}

// A port that another VM's guest program has is no unknown program's.
func TestPortOfAGuestProgram(t *testing.T) {
	busy := map[uint16]bool{}
	a := usernet.NewWith(func(at netip.AddrPort) bool { return !busy[at.Port()] }, 20000)
	attach(t, a, nic(1), nil)
	busy[20000] = true // its VMM listens
	err := usernet.CheckFree(a, []banger.Publish{{Host: netip.MustParseAddrPort("0.0.0.0:20000"), Guest: 80, Proto: banger.TCP}})
	if e := banger.AsError(err); e == nil || e.Code != banger.HostUnready || !strings.Contains(e.Message, "guest program of VM 00000001") {
		t.Errorf("%+v", e)
	}
}
