package dns_test

import (
	"bytes"
	"net"
	"slices"
	"strings"
	"testing"

	mdns "github.com/miekg/dns"

	"banger/internal/dns"
)

// A recorder is a client to whom one answer may be written.
type recorder struct {
	mdns.ResponseWriter // none of its other methods is called
	from                net.Addr
	said                []byte
}

func (r *recorder) RemoteAddr() net.Addr { return r.from }

func (r *recorder) WriteMsg(m *mdns.Msg) (err error) {
	r.said, err = m.Pack()
	return err
}

// Whatever comes, the answer is a sound message that belongs to the question, is
// no longer than its asker can take, and says nothing of other zones.
func FuzzAnswer(f *testing.F) {
	for _, name := range []string{"web.vm.", "WEB.vm.", "vm.", ".", "3.16.9.10.in-addr.arpa.", "16.9.10.in-addr.arpa.", "many.vm.", `a\.b.vm.`, "x.example."} {
		for _, kind := range []uint16{mdns.TypeA, mdns.TypeANY, mdns.TypeSOA, mdns.TypePTR, mdns.TypeIXFR} {
			q := new(mdns.Msg).SetQuestion(name, kind)
			plain, _ := q.Pack()
			f.Add(plain, true)
			q.SetEdns0(700, true)
			edns, _ := q.Pack()
			f.Add(edns, false)
		}
	}
	f.Add([]byte{0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0}, true) // a header alone
	f.Add([]byte{0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0xc0, 12, 0, 1, 0, 1}, true)
	names := sample()
	f.Fuzz(func(t *testing.T, raw []byte, udp bool) {
		q := new(mdns.Msg)
		if len(raw) > mdns.MaxMsgSize || !dns.Accepted(raw) || q.Unpack(raw) != nil {
			return
		}
		r := &recorder{from: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1}}
		if udp {
			r.from = &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1}
		}
		dns.Handler(fixed(names)).ServeDNS(r, q)
		m := new(mdns.Msg)
		if err := m.Unpack(r.said); err != nil {
			t.Fatalf("%q: answered with %x: %v", raw, r.said, err)
		}
		if !m.Response || m.Id != q.Id || !slices.Equal(m.Question, q.Question) || len(m.Question) != 1 && m.Rcode != mdns.RcodeFormatError {
			t.Errorf("%v is answered with %v", q, m)
		}
		if udp && len(r.said) > 1232 {
			t.Errorf("%d bytes by UDP", len(r.said))
		}
		for _, rr := range append(m.Answer, m.Ns...) {
			name := strings.ToLower(rr.Header().Name)
			if name != "vm." && !strings.HasSuffix(name, ".vm.") && !strings.HasSuffix(name, ".9.10.in-addr.arpa.") {
				t.Errorf("%v is answered with %v", q.Question, rr)
			}
		}
		if m.Rcode == mdns.RcodeRefused && len(m.Answer)+len(m.Ns) > 0 {
			t.Errorf("refused, and answered: %v", m)
		}
		if bytes.Equal(raw, r.said) {
			t.Error("echoed")
		}
	})
}
