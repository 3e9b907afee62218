package dns_test

import (
	"bytes"
	"encoding/hex"
	"net"
	"testing"

	mdns "github.com/miekg/dns"

	"banger/internal/dns"
)

// questions are those that are to be answered quickly, and then some that are not.
func questions() (quick, slow [][]byte) {
	pack := func(m *mdns.Msg) []byte {
		b, err := m.Pack()
		if err != nil {
			panic(err)
		}
		return b
	}
	for _, name := range []string{"web.vm.", "wEb.VM.", "no-such.vm.", "user.vm."} {
		for _, kind := range []uint16{mdns.TypeA, mdns.TypeAAAA, mdns.TypeHTTPS, mdns.TypeSOA, 0, 65535} {
			q := new(mdns.Msg).SetQuestion(name, kind)
			quick = append(quick, pack(q))
			q.AuthenticatedData, q.CheckingDisabled, q.RecursionDesired = true, true, false
			quick = append(quick, pack(q))
			quick = append(quick, pack(q.SetEdns0(1400, true)))
			q.IsEdns0().SetUDPSize(1)
			quick = append(quick, pack(q))
			q.IsEdns0().Option = []mdns.EDNS0{&mdns.EDNS0_COOKIE{Code: mdns.EDNS0COOKIE, Cookie: "0123456789abcdef"}}
			slow = append(slow, pack(q))
		}
		slow = append(slow, pack(new(mdns.Msg).SetQuestion(name, mdns.TypeANY)), pack(new(mdns.Msg).SetQuestion(name, mdns.TypeIXFR)))
	}
	for _, name := range []string{"vm.", "a.web.vm.", "3.16.9.10.in-addr.arpa.", "web.example.", `w\.b.vm.`, `w\226b.vm.`, "many.vm."} {
		slow = append(slow, pack(new(mdns.Msg).SetQuestion(name, mdns.TypeA)))
	}
	return quick, slow
}

// What getaddrinfo(3) asks takes the short way, and what is unusual does not.
func TestQuick(t *testing.T) {
	quick, slow := questions()
	for _, q := range quick {
		if len(dns.Quickly(fixed(sample()), q, addr("127.0.0.1"))) == 0 {
			t.Errorf("is not answered quickly:\n%s", hex.Dump(q))
		}
	}
	for _, q := range slow {
		if a := dns.Quickly(fixed(sample()), q, addr("127.0.0.1")); len(a) > 0 {
			t.Errorf("is answered quickly:\n%s%s", hex.Dump(q), hex.Dump(a))
		}
	}
}

// A quick answer is the one that the library puts together, byte for byte, whatever
// was asked.
func FuzzQuick(f *testing.F) {
	quick, slow := questions()
	for _, q := range append(quick, slow...) {
		f.Add(q)
	}
	names := sample()
	f.Fuzz(func(t *testing.T, raw []byte) {
		quickly := dns.Quickly(fixed(names), raw, addr("127.0.0.1"))
		if len(quickly) == 0 {
			return
		}
		q := new(mdns.Msg)
		if !dns.Accepted(raw) || q.Unpack(raw) != nil {
			t.Fatalf("%x is answered, and is no question", raw)
		}
		r := &recorder{from: &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1}}
		dns.Handler(fixed(names)).ServeDNS(r, q)
		if !bytes.Equal(quickly, r.said) {
			t.Errorf("%x is answered with\n%s, want\n%s", raw, hex.Dump(quickly), hex.Dump(r.said))
		}
	})
}

// BenchmarkQuick is what an answer costs without the kernel's part; slowly: by the
// library.
func BenchmarkQuick(b *testing.B) {
	raw, _ := new(mdns.Msg).SetQuestion("web.vm.", mdns.TypeA).Pack()
	view := fixed(sample())
	b.Run("quickly", func(b *testing.B) {
		for b.Loop() {
			dns.Quickly(view, raw, addr("127.0.0.1"))
		}
	})
	b.Run("slowly", func(b *testing.B) {
		r := &recorder{from: &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1}}
		for b.Loop() {
			q := new(mdns.Msg)
			_ = q.Unpack(raw)
			dns.Handler(view).ServeDNS(r, q)
		}
	})
}
