package dns

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/miekg/dns"
)

// Zone is the domain of all VMs' names, absolute.
const Zone = "vm."

const (
	// ttl of all records, seconds. A cache in between would go on telling of a VM
	// that has ended, and go on denying one that was asked for before it started;
	// to ask anew costs a packet on the loopback.
	ttl = 0

	// payload is how long a message by UDP may be, both ways, bytes: what was
	// agreed on at the DNS flag day 2020.
	payload = 1232
)

// answer returns what q, which has exactly one question, is answered with, whole.
func answer(q *dns.Msg, names *Names) *dns.Msg {
	m := new(dns.Msg).SetReply(q)
	m.Authoritative = true
	question := q.Question[0]
	opt := q.IsEdns0()
	switch {
	case opt != nil && opt.Version() != 0:
		m.Authoritative = false
		m.Rcode = dns.RcodeBadVers
	case question.Qclass != dns.ClassINET && question.Qclass != dns.ClassANY:
		refuse(m)
	case question.Qtype == dns.TypeAXFR || question.Qtype == dns.TypeIXFR:
		refuse(m)
	default:
		lookUp(m, question, names)
	}
	if opt != nil {
		m.SetEdns0(payload, opt.Do())
		m.IsEdns0().SetVersion(0)
	}
	return m
}

func refuse(m *dns.Msg) {
	m.Authoritative = false
	m.Rcode = dns.RcodeRefused
}

// A place is what a name of ours is.
type place struct {
	apex  string // of its zone, absolute
	there bool
	rrs   []dns.RR // all that it has, but for an apex's SOA and NS
}

// lookUp puts what is known of the question into m.
func lookUp(m *dns.Msg, q dns.Question, names *Names) {
	p, ours := find(q.Name, names)
	if !ours {
		refuse(m)
		return
	}
	rrs := p.rrs
	if dns.CanonicalName(q.Name) == p.apex {
		// The apex names itself as its server, as that of RFC 6303's zones does: who
		// asks here has found the server already.
		rrs = append([]dns.RR{soa(q.Name), &dns.NS{Hdr: header(q.Name, dns.TypeNS), Ns: p.apex}}, rrs...)
	}
	kind := q.Qtype
	if kind == dns.TypeANY && len(rrs) > 0 { // one set of records is enough (RFC 8482, 4.1)
		kind = rrs[0].Header().Rrtype
	}
	for _, rr := range rrs {
		if rr.Header().Rrtype == kind {
			m.Answer = append(m.Answer, rr)
		}
	}
	if len(m.Answer) > 0 {
		return
	}
	m.Ns = []dns.RR{soa(p.apex)}
	if !p.there {
		m.Rcode = dns.RcodeNameError
	}
}

// find says what a name is; ours is false outside of our zones. Records bear the
// name as it was asked for, letter by letter.
func find(name string, names *Names) (p place, ours bool) {
	labels := dns.SplitDomainName(dns.CanonicalName(name))
	n := len(labels)
	switch {
	case n > 0 && labels[n-1] == strings.TrimSuffix(Zone, "."):
		return host(name, labels[:n-1], names), true
	case n >= 2 && labels[n-1] == "arpa" && labels[n-2] == "in-addr":
		return pointer(name, labels[:n-2], names)
	}
	return p, false
}

func host(name string, labels []string, names *Names) place {
	p := place{apex: Zone}
	if len(labels) == 0 {
		p.there = true
		return p
	}
	if len(labels) > 1 {
		return p
	}
	addrs, there := names.hosts[labels[0]]
	p.there = there
	for _, a := range addrs {
		p.rrs = append(p.rrs, &dns.A{Hdr: header(name, dns.TypeA), A: a.AsSlice()})
	}
	return p
}

// pointer is find for a name below in-addr.arpa; labels are what stands before
// that, the last byte of an address first. A subnet of /24 or wider is so many
// zones of a /24 each; of a narrower one each address is a zone of its own, so that
// nothing is said about the rest of its /24.
func pointer(name string, labels []string, names *Names) (p place, ours bool) {
	var b [4]byte
	for i, l := range slices.Backward(labels) {
		at := len(labels) - 1 - i
		n, err := strconv.ParseUint(l, 10, 8)
		if at >= len(b) || err != nil || strconv.FormatUint(n, 10) != l {
			// Below an address, or no address: there can be such names in our /24s only.
			if at < 3 || names.subnet.Bits() > 24 || !names.subnet.Contains(netip.AddrFrom4(b)) {
				return p, false
			}
			return place{apex: reverse(b, 3)}, true
		}
		b[at] = byte(n)
	}
	a := netip.AddrFrom4(b)
	if len(labels) < 3 || !names.subnet.Contains(a) {
		return p, false
	}
	whole := len(labels) == 4
	if names.subnet.Bits() > 24 {
		if !whole {
			return p, false
		}
		p = place{apex: reverse(b, 4), there: true}
	} else {
		p = place{apex: reverse(b, 3), there: !whole}
	}
	if label, ok := names.labels[a]; ok && whole {
		p.there = true
		p.rrs = []dns.RR{&dns.PTR{Hdr: header(name, dns.TypePTR), Ptr: label + "." + Zone}}
	}
	return p, true
}

// reverse is the name of the first n bytes of an address.
func reverse(b [4]byte, n int) string {
	name := "in-addr.arpa."
	for _, x := range b[:n] {
		name = strconv.Itoa(int(x)) + "." + name
	}
	return name
}

func header(name string, t uint16) dns.RR_Header {
	return dns.RR_Header{Name: name, Rrtype: t, Class: dns.ClassINET, Ttl: ttl}
}

// soa is the start of a zone. Nobody copies it, so its serial never changes.
func soa(apex string) dns.RR {
	return &dns.SOA{
		Hdr: header(apex, dns.TypeSOA), Ns: strings.ToLower(apex), Mbox: "nobody.invalid.",
		Serial: 1, Refresh: 3600, Retry: 1200, Expire: 604800, Minttl: ttl,
	}
}
