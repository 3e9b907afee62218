package link

import (
	"encoding/binary"
	"errors"
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
		l, err := netlink.LinkDeserialize(nil, m)
		if s.err = errors.Join(s.err, err); err != nil {
			return
		}
		a := l.Attrs()
		s.names[a.Name] = l
		s.sysctls[a.Name] = sysctlsOf(m)
		if a.Alias == "" && a.Name == addr.GatewayName(s.uid, s.tag) && a.HardwareAddr.String() == addr.GatewayMAC(s.uid, s.tag) {
			s.mine[s.gatewayAlias()] = l
		} else if strings.HasPrefix(a.Alias, s.alias()) {
			s.mine[a.Alias] = l
			s.index[a.Index] = true
		}
	}
}

// dumpLinks is netlink.LinkList without the decoding, which leaves sysctls out.
func dumpLinks() ([][]byte, error) {
	r := nl.NewNetlinkRequest(unix.RTM_GETLINK, unix.NLM_F_DUMP)
	r.AddData(nl.NewIfInfomsg(unix.AF_UNSPEC))
	return r.Execute(unix.NETLINK_ROUTE, unix.RTM_NEWLINK)
}

// sysctls are those of one link, by family, as the kernel numbers them. One
// message has those of all links, while each has a file of its own: of 200 taps
// these are 1,600.
type sysctls map[uint16][]byte

// places are the sysctls that are looked at: IPV4_DEVCONF_FORWARDING and so on,
// less one, of linux/ip.h; DEVCONF_ACCEPT_RA and so on of linux/ipv6.h.
var places = map[string]int{
	"ipv4/forwarding": 0, "ipv4/proxy_arp": 2, "ipv4/accept_redirects": 3, "ipv4/rp_filter": 7, "ipv4/accept_source_route": 8, "ipv4/accept_local": 22, "ipv4/route_localnet": 25,
	"ipv6/accept_ra": 3, "ipv6/disable_ipv6": 26,
}

// sysctlsOf takes them from a message of RTM_NEWLINK: IFLA_AF_SPEC has, for each
// family, IFLA_INET_CONF or IFLA_INET6_CONF, an array of 32-bit numbers.
func sysctlsOf(m []byte) sysctls {
	found := sysctls{}
	for _, spec := range attributes(m[unix.SizeofIfInfomsg:], unix.IFLA_AF_SPEC) {
		for family, conf := range map[uint16]int{unix.AF_INET: unix.IFLA_INET_CONF, unix.AF_INET6: unix.IFLA_INET6_CONF} {
			for _, of := range attributes(spec, int(family)) {
				for _, values := range attributes(of, conf) {
					found[family] = values
				}
			}
		}
	}
	return found
}

// attributes are the values of b's attributes of one type.
func attributes(b []byte, kind int) (values [][]byte) {
	all, err := nl.ParseRouteAttr(b)
	for _, a := range all {
		if err == nil && int(a.Attr.Type&^unix.NLA_F_NESTED) == kind {
			values = append(values, a.Value)
		}
	}
	return values
}

func (c sysctls) value(name string) (value string, known bool) {
	family := uint16(unix.AF_INET)
	if strings.HasPrefix(name, "ipv6/") {
		family = unix.AF_INET6
	}
	at, known := places[name]
	if !known || len(c[family]) < 4*at+4 {
		return "", false
	}
	return strconv.Itoa(int(int32(binary.NativeEndian.Uint32(c[family][4*at:])))), true
}
