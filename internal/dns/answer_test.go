package dns_test

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"testing"

	mdns "github.com/miekg/dns"

	"banger"
	"banger/internal/dns"
)

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

// vms are what a host may have.
func vms() []banger.VM {
	publish := func(host string) []banger.Publish {
		return []banger.Publish{{Host: netip.MustParseAddrPort(host), Guest: 80, Proto: banger.TCP}}
	}
	vm := func(name, a string, pid int, mode banger.NetworkMode, p []banger.Publish) banger.VM {
		return banger.VM{Spec: banger.Spec{Name: name, Network: mode, Publish: p}, Lease: banger.Lease{Addr: addr(a)}, PID: pid}
	}
	return []banger.VM{
		vm("web", "10.9.16.3", 1, banger.NetworkRouted, nil),
		vm("db", "10.9.31.4", 2, banger.NetworkRouted, nil),
		vm("off", "10.9.16.5", 0, banger.NetworkRouted, nil),
		vm("user", "10.9.16.6", 3, banger.NetworkUser, nil),
		vm("site", "10.9.16.7", 4, banger.NetworkUser, publish("127.0.0.1:8080")),
		vm("all", "10.9.16.8", 5, banger.NetworkUser, publish("0.0.0.0:8081")),
		vm("lan", "10.9.16.9", 6, banger.NetworkUser, publish("192.168.1.2:8082")),
		vm("offsite", "10.9.16.10", 0, banger.NetworkUser, publish("127.0.0.1:8083")),
	}
}

func fixed(n *dns.Names) dns.View {
	return func(context.Context, netip.Addr) (*dns.Names, error) { return n, nil }
}

// many are the addresses of many.vm: no answer by UDP holds them all.
const many = 100

func sample() *dns.Names {
	n := dns.Of(netip.MustParsePrefix("10.9.16.0/20"), vms())
	var addrs []netip.Addr
	for i := range many {
		addrs = append(addrs, netip.AddrFrom4([4]byte{192, 0, 2, byte(i)}))
	}
	n.Add("many", addrs...)
	return n
}

// say prints an answer in one line: code, flags, records.
func say(m *mdns.Msg) string {
	var b strings.Builder
	b.WriteString(mdns.RcodeToString[m.Rcode])
	for _, f := range []struct {
		on   bool
		name string
	}{{m.Authoritative, "aa"}, {m.Truncated, "tc"}, {m.RecursionAvailable, "ra"}, {m.AuthenticatedData, "ad"}} {
		if f.on {
			b.WriteString(" " + f.name)
		}
	}
	for _, rr := range m.Answer {
		b.WriteString(" " + strings.Join(strings.Fields(rr.String()), " "))
	}
	if len(m.Ns) > 0 {
		b.WriteString(" |")
	}
	for _, rr := range m.Ns {
		b.WriteString(" " + rr.Header().Name + " " + mdns.TypeToString[rr.Header().Rrtype])
	}
	return b.String()
}

// Every kind of question, by UDP and by TCP.
func TestAnswers(t *testing.T) {
	s := serve(t, fixed(sample()))
	const none, nodata = "NXDOMAIN aa | vm. SOA", "NOERROR aa | vm. SOA"
	for _, c := range []struct{ name, kind, want string }{
		{"web.vm.", "A", "NOERROR aa web.vm. 0 IN A 10.9.16.3"},
		{"WeB.vM.", "A", "NOERROR aa WeB.vM. 0 IN A 10.9.16.3"},
		{"web.vm.", "AAAA", nodata},
		{"web.vm.", "MX", nodata},
		{"web.vm.", "SOA", nodata},
		{"web.vm.", "HTTPS", nodata},
		{"web.vm.", "ANY", "NOERROR aa web.vm. 0 IN A 10.9.16.3"},
		{"off.vm.", "A", none},
		{"off.vm.", "AAAA", none},
		{"nosuch.vm.", "ANY", none},
		{"a.web.vm.", "A", none},
		{`w\101b.vm.`, "A", "NOERROR aa web.vm. 0 IN A 10.9.16.3"},
		{`x\.web.vm.`, "A", none},
		{`web\.vm.`, "A", "REFUSED"},
		{"user.vm.", "A", nodata},
		{"user.vm.", "ANY", nodata},
		{"lan.vm.", "A", nodata},
		{"site.vm.", "A", "NOERROR aa site.vm. 0 IN A 127.0.0.1"},
		{"all.vm.", "A", "NOERROR aa all.vm. 0 IN A 127.0.0.1"},
		{"offsite.vm.", "A", none},

		{"vm.", "SOA", "NOERROR aa vm. 0 IN SOA vm. nobody.invalid. 1 3600 1200 604800 0"},
		{"VM.", "SOA", "NOERROR aa VM. 0 IN SOA vm. nobody.invalid. 1 3600 1200 604800 0"},
		{"vm.", "NS", "NOERROR aa vm. 0 IN NS vm."},
		{"vm.", "A", nodata},
		{"vm.", "ANY", "NOERROR aa vm. 0 IN SOA vm. nobody.invalid. 1 3600 1200 604800 0"},
		{"vm.", "DS", nodata},
		{"vm.", "AXFR", "REFUSED"},
		{"vm.", "IXFR", "REFUSED"},

		{"3.16.9.10.in-addr.arpa.", "PTR", "NOERROR aa 3.16.9.10.in-addr.arpa. 0 IN PTR web.vm."},
		{"3.16.9.10.IN-ADDR.arpa.", "PTR", "NOERROR aa 3.16.9.10.IN-ADDR.arpa. 0 IN PTR web.vm."},
		{"3.16.9.10.in-addr.arpa.", "A", "NOERROR aa | 16.9.10.in-addr.arpa. SOA"},
		{"4.31.9.10.in-addr.arpa.", "ANY", "NOERROR aa 4.31.9.10.in-addr.arpa. 0 IN PTR db.vm."},
		{"5.16.9.10.in-addr.arpa.", "PTR", "NXDOMAIN aa | 16.9.10.in-addr.arpa. SOA"},
		{"6.16.9.10.in-addr.arpa.", "PTR", "NXDOMAIN aa | 16.9.10.in-addr.arpa. SOA"},
		{"16.9.10.in-addr.arpa.", "NS", "NOERROR aa 16.9.10.in-addr.arpa. 0 IN NS 16.9.10.in-addr.arpa."},
		{"16.9.10.in-addr.arpa.", "PTR", "NOERROR aa | 16.9.10.in-addr.arpa. SOA"},
		{"x.16.9.10.in-addr.arpa.", "PTR", "NXDOMAIN aa | 16.9.10.in-addr.arpa. SOA"},
		{"1.3.16.9.10.in-addr.arpa.", "PTR", "NXDOMAIN aa | 16.9.10.in-addr.arpa. SOA"},
		{"03.16.9.10.in-addr.arpa.", "PTR", "NXDOMAIN aa | 16.9.10.in-addr.arpa. SOA"},
		{"256.16.9.10.in-addr.arpa.", "PTR", "NXDOMAIN aa | 16.9.10.in-addr.arpa. SOA"},
		{"3.32.9.10.in-addr.arpa.", "PTR", "REFUSED"},
		{"9.10.in-addr.arpa.", "SOA", "REFUSED"},
		{"x.9.10.in-addr.arpa.", "PTR", "REFUSED"},
		{"in-addr.arpa.", "SOA", "REFUSED"},
		{"1.0.0.127.in-addr.arpa.", "PTR", "REFUSED"},

		{"example.com.", "A", "REFUSED"},
		{"web.vm.example.com.", "A", "REFUSED"},
		{"avm.", "A", "REFUSED"},
		{".", "NS", "REFUSED"},
	} {
		for _, network := range []string{"udp", "tcp"} {
			q := new(mdns.Msg).SetQuestion(c.name, mdns.StringToType[c.kind])
			if network == "udp" && c.kind == "AXFR" {
				continue
			}
			m := exchange(t, s, network, q)
			if got := say(m); got != c.want {
				t.Errorf("%s %s by %s: %s, want %s", c.name, c.kind, network, got, c.want)
			}
			if m.RecursionDesired != q.RecursionDesired {
				t.Errorf("%s: the wish for recursion is not copied", c.name)
			}
		}
	}
}

// A subnet that is no whole /24 says nothing about the rest of it.
func TestNarrowSubnet(t *testing.T) {
	n := dns.NewNames(netip.MustParsePrefix("192.168.7.16/28"))
	n.Add("web", addr("192.168.7.19"))
	s := serve(t, fixed(n))
	for name, want := range map[string]string{
		"19.7.168.192.in-addr.arpa.":   "NOERROR aa 19.7.168.192.in-addr.arpa. 0 IN PTR web.vm.",
		"20.7.168.192.in-addr.arpa.":   "NOERROR aa | 20.7.168.192.in-addr.arpa. SOA",
		"33.7.168.192.in-addr.arpa.":   "REFUSED",
		"7.168.192.in-addr.arpa.":      "REFUSED",
		"x.7.168.192.in-addr.arpa.":    "REFUSED",
		"1.19.7.168.192.in-addr.arpa.": "REFUSED",
	} {
		if got := say(exchange(t, s, "udp", new(mdns.Msg).SetQuestion(name, mdns.TypePTR))); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
}

func TestOtherClasses(t *testing.T) {
	s := serve(t, fixed(sample()))
	for class, want := range map[uint16]string{
		mdns.ClassINET: "NOERROR aa web.vm. 0 IN A 10.9.16.3", mdns.ClassANY: "NOERROR aa web.vm. 0 IN A 10.9.16.3",
		mdns.ClassCHAOS: "REFUSED", mdns.ClassNONE: "REFUSED",
	} {
		q := new(mdns.Msg).SetQuestion("web.vm.", mdns.TypeA)
		q.Question[0].Qclass = class
		if got := say(exchange(t, s, "udp", q)); got != want {
			t.Errorf("class %s: %s, want %s", mdns.ClassToString[class], got, want)
		}
	}
}

// EDNS: answered if it was used, and only then; a version that is not known is
// said to be so; and it decides how long an answer may be.
func TestEDNS(t *testing.T) {
	s := serve(t, fixed(sample()))
	ask := func(network, name string, size uint16, version uint8, do bool) *mdns.Msg {
		q := new(mdns.Msg).SetQuestion(name, mdns.TypeA)
		if size > 0 {
			q.SetEdns0(size, do)
			q.IsEdns0().SetVersion(version)
		}
		return exchange(t, s, network, q)
	}
	if m := ask("udp", "web.vm.", 0, 0, false); m.IsEdns0() != nil {
		t.Error("EDNS in an answer to whom does not speak it")
	}
	m := ask("udp", "web.vm.", 4096, 0, true)
	if o := m.IsEdns0(); o == nil || o.UDPSize() != 1232 || !o.Do() || o.Version() != 0 || len(m.Answer) != 1 {
		t.Errorf("%v", m)
	}
	m = ask("udp", "web.vm.", 4096, 1, false)
	if o := m.IsEdns0(); m.Rcode != mdns.RcodeBadVers || o == nil || o.Version() != 0 || len(m.Answer) != 0 {
		t.Errorf("version 1: %v", m)
	}
	for _, c := range []struct {
		network   string
		size      uint16
		truncated bool
		most      int
	}{{"udp", 0, true, 512}, {"udp", 100, true, 512}, {"udp", 600, true, 600}, {"udp", 1232, true, 1232}, {"udp", 65000, true, 1232}, {"tcp", 0, false, 65535}} {
		m := ask(c.network, "many.vm.", c.size, 0, false)
		m.Compress = true // as it came
		size := len(pack(t, m))
		whole := len(m.Answer) == many
		if m.Truncated != c.truncated || whole == c.truncated || size > c.most {
			t.Errorf("%s, %d bytes: truncated %v, %d records in %d bytes", c.network, c.size, m.Truncated, len(m.Answer), size)
		}
	}
}

// What is sent is not much more than what was asked for, so that nobody gains by
// having us answer somebody else.
func TestAmplification(t *testing.T) {
	s := serve(t, fixed(dns.Of(netip.MustParsePrefix("10.9.16.0/20"), vms())))
	for _, name := range []string{"web.vm.", "vm.", "nosuch.vm.", "x.", "3.16.9.10.in-addr.arpa.", "5.16.9.10.in-addr.arpa.", strings.Repeat("a", 63) + ".vm."} {
		for _, kind := range []uint16{mdns.TypeA, mdns.TypeANY, mdns.TypeSOA, mdns.TypeNS, mdns.TypeDNSKEY, mdns.TypeRRSIG} {
			q := new(mdns.Msg).SetQuestion(name, kind)
			q.SetEdns0(4096, true)
			asked, err := q.Pack()
			if err != nil {
				t.Fatal(err)
			}
			if raw := exchangeRaw(t, s, asked); len(raw) > 3*len(asked) {
				t.Errorf("%s %s: %d bytes are answered with %d", name, mdns.TypeToString[kind], len(asked), len(raw))
			}
		}
	}
}

// A View that fails is the server's failure, not a name that is not there.
func TestViewFails(t *testing.T) {
	s := serve(t, func(context.Context, netip.Addr) (*dns.Names, error) { return nil, errors.New("no database") })
	if got := say(exchange(t, s, "udp", new(mdns.Msg).SetQuestion("web.vm.", mdns.TypeA))); got != "SERVFAIL" {
		t.Error(got)
	}
}

// Each listener tells its askers what they may know.
func TestViewKnowsTheAsker(t *testing.T) {
	askers := make(chan netip.Addr, 2)
	s := serve(t, func(_ context.Context, a netip.Addr) (*dns.Names, error) {
		askers <- a
		return sample(), nil
	})
	for _, network := range []string{"udp", "tcp"} {
		exchange(t, s, network, new(mdns.Msg).SetQuestion("web.vm.", mdns.TypeA))
		if a := <-askers; a != addr("127.0.0.1") {
			t.Errorf("by %s it is asked for %s", network, a)
		}
	}
}
