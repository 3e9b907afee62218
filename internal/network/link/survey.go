package link

import (
	"encoding/binary"
	"errors"
	"iter"
	"strconv"
	"strings"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"banger/internal/network/addr"
)

// survey finds what is there. A gateway's link without an alias was made by an
// Apply that died too soon: nobody else has a reason for this name with this MAC.
func (s *setter) survey() {
	s.names, s.mine, s.index, s.sysctls = map[string]netlink.Link{}, map[string]netlink.Link{}, map[int]bool{}, map[string]sysctls{}
	for _, m := range list(s, "links", dumpLinks) {
		l, err := netlink.LinkDeserialize(nil, needed(m))
		if s.err = errors.Join(s.err, err); err != nil {
			return
		}
		a := l.Attrs()
		s.names[a.Name] = l
		s.sysctls[a.Name] = sysctlsOf(m)
		if a.Alias == "" && a.Name == addr.GatewayName(s.uid, s.tag) && a.HardwareAddr.String() == addr.GatewayMAC(s.uid, s.tag) {
			s.mine[s.gatewayAlias()] = l
		} else if strings.HasPrefix(a.Alias, s.own) {
			s.mine[a.Alias] = l
			s.index[a.Index] = true
		}
	}
}

// dumpLinks is netlink.LinkList without the decoding, which leaves sysctls out, and
// without what each link has counted, which is half of a message and added up over
// all CPUs.
func dumpLinks() ([][]byte, error) {
	const skipStats = 1 << 3 // RTEXT_FILTER_SKIP_STATS of linux/rtnetlink.h
	r := nl.NewNetlinkRequest(unix.RTM_GETLINK, unix.NLM_F_DUMP)
	r.AddData(nl.NewIfInfomsg(unix.AF_UNSPEC))
	r.AddData(nl.NewRtAttr(unix.IFLA_EXT_MASK, nl.Uint32Attr(skipStats)))
	return r.Execute(unix.NETLINK_ROUTE, unix.RTM_NEWLINK)
}

// needed is a message of RTM_NEWLINK with those attributes alone that an Apply asks
// for. Most of the time that decoding takes goes to the some fifty others.
func needed(m []byte) []byte {
	some := append(make([]byte, 0, 512), m[:unix.SizeofIfInfomsg]...)
	for kind, whole := range attributes(m[unix.SizeofIfInfomsg:]) {
		switch kind {
		case unix.IFLA_IFNAME, unix.IFLA_ADDRESS, unix.IFLA_IFALIAS, unix.IFLA_LINKINFO, unix.IFLA_PROP_LIST:
			some = append(some, whole...)
		}
	}
	return some
}

// A sysctl is one of a link's, and what it is to be. at is its place in the array
// that the kernel tells it in: IPV4_DEVCONF_FORWARDING and so on, less one, of
// linux/ip.h; DEVCONF_ACCEPT_RA and so on of linux/ipv6.h.
type sysctl struct {
	family, key string
	at          int
	value       string
}

// sysctls are those of one link: arrays of 32-bit numbers. One message has those of
// all links, while each has a file of its own: of 200 taps these are 1,600.
type sysctls struct{ ipv4, ipv6 []byte }

// sysctlsOf takes them from a message of RTM_NEWLINK: IFLA_AF_SPEC has, for each
// family, IFLA_INET_CONF or IFLA_INET6_CONF.
func sysctlsOf(m []byte) sysctls {
	spec := attribute(m[unix.SizeofIfInfomsg:], unix.IFLA_AF_SPEC)
	return sysctls{
		ipv4: attribute(attribute(spec, unix.AF_INET), unix.IFLA_INET_CONF),
		ipv6: attribute(attribute(spec, unix.AF_INET6), unix.IFLA_INET6_CONF),
	}
}

// attribute is the value of b's first attribute of one type, nil if it has none.
func attribute(b []byte, kind uint16) []byte {
	for k, whole := range attributes(b) {
		if k == kind {
			n := binary.NativeEndian.Uint16(whole)
			return whole[unix.SizeofRtAttr:n]
		}
	}
	return nil
}

// attributes are those of b, by type, each with its header and padding.
func attributes(b []byte) iter.Seq2[uint16, []byte] {
	return func(yield func(uint16, []byte) bool) {
		for len(b) >= unix.SizeofRtAttr {
			n := int(binary.NativeEndian.Uint16(b))
			if n < unix.SizeofRtAttr || n > len(b) {
				return
			}
			padded := min(len(b), (n+unix.RTA_ALIGNTO-1)&^(unix.RTA_ALIGNTO-1))
			if !yield(binary.NativeEndian.Uint16(b[2:])&^unix.NLA_F_NESTED, b[:padded]) {
				return
			}
			b = b[padded:]
		}
	}
}

// now is what one of them is.
func (c sysctls) now(of sysctl) (value string, known bool) {
	all := c.ipv4
	if of.family == "ipv6" {
		all = c.ipv6
	}
	if len(all) < 4*of.at+4 {
		return "", false
	}
	return strconv.Itoa(int(int32(binary.NativeEndian.Uint32(all[4*of.at:])))), true
}
