package link

import (
	"errors"
	"net/netip"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"banger"
	"banger/internal/network"
)

// The sets and maps of published ports, in a table that has some.
const (
	setDoors     = "doors"     // uplinks that let in what is sent to them
	mapPorts     = "ports"     // address, protocol and port of the host: address and port of a VM
	mapAnywhere  = "anywhere"  // protocol and port of any address of the host: the same
	setPublished = "published" // protocol, address and port of a VM
)

// afterOthersNAT is behind the chains that change destinations: of two with the same
// priority the younger is asked first, and firewalld's have -90. What root leads
// elsewhere need not have a socket of the host's (kube-proxy's node ports have none), so
// that any user can bind one there; the first chain that leads a connection has it.
var afterOthersNAT = nftables.ChainPriorityFilter

// addPublish adds what leads published ports to their VMs. A packet that comes in by
// an uplink for an address of the host's is led on only where the kernel would
// otherwise give it to a socket with this user's mark (Router.Claim). So the rules do
// nothing for a port that its user has no more, whoever listens there next. What comes
// from elsewhere, from the host itself among it, comes to the socket.
func (s *setter) addPublish(r *ruleset, c network.Config) {
	if len(c.Ports) == 0 {
		return
	}
	guest := nftables.MustConcatSetType(nftables.TypeIPAddr, nftables.TypeInetService)
	r.sets = append(r.sets,
		&nftables.Set{Table: r.table, Name: setDoors, KeyType: nftables.TypeIFIndex},
		&nftables.Set{Table: r.table, Name: mapPorts, IsMap: true, Concatenation: true, DataType: guest,
			KeyType: nftables.MustConcatSetType(nftables.TypeIPAddr, nftables.TypeInetProto, nftables.TypeInetService)},
		&nftables.Set{Table: r.table, Name: mapAnywhere, IsMap: true, Concatenation: true, DataType: guest,
			KeyType: nftables.MustConcatSetType(nftables.TypeInetProto, nftables.TypeInetService)},
		&nftables.Set{Table: r.table, Name: setPublished, Concatenation: true,
			KeyType: nftables.MustConcatSetType(nftables.TypeInetProto, nftables.TypeIPAddr, nftables.TypeInetService)},
	)
	for _, l := range s.uplinks {
		if a := l.Attrs(); slices.Contains(s.opened, l) || forwards(a.Name) {
			r.element(setDoors, binaryutil.NativeEndian.PutUint32(uint32(a.Index)))
		}
	}
	addresses := map[banger.VMID]netip.Addr{}
	for _, t := range c.Taps {
		addresses[t.VM] = t.Addr
	}
	for _, p := range c.Ports {
		to := slices.Concat(addresses[p.VM].AsSlice(), service(p.Guest))
		if at := p.Host.Addr(); at.IsUnspecified() {
			r.lead(mapAnywhere, to, protocol(p.Proto), service(p.Host.Port()))
		} else {
			r.lead(mapPorts, to, at.AsSlice(), protocol(p.Proto), service(p.Host.Port()))
		}
		r.element(setPublished, protocol(p.Proto), to)
	}
	here := join(isIPv4, inBy(setDoors), toHost, markedSocket(mark(s.uid)))
	const led = "led"
	r.regular(led,
		join(load(destinationAt, l4proto, toPort), leadBy(mapPorts)),
		join(load(l4proto, toPort), leadBy(mapAnywhere)))
	r.chain("publish", nftables.ChainHookPrerouting, afterOthersNAT, join(here, goTo(led))).Type = nftables.ChainTypeNAT
}

// published lets in who comes by a published port, and VMs answer them, and nobody else,
// with errors about either.
func published(r *ruleset, c network.Config, outward, inward []expr.Any) [][]expr.Any {
	const comers, replies = "comers", "replies"
	if len(c.Ports) == 0 {
		return nil
	}
	r.regular(replies, join(load(l4proto, sourceAt, fromPort), among(setPublished), pass), join(related, pass))
	r.regular(comers, join(load(l4proto, destinationAt, toPort), among(setPublished), pass), join(related, pass))
	return [][]expr.Any{
		join(outward, isIPv4, destinationChanged, direction(1), jumpTo(replies)),
		join(inward, destinationChanged, direction(0), jumpTo(comers)),
	}
}

// lead adds an element to a map.
func (r *ruleset) lead(name string, to []byte, key ...[]byte) {
	if r.elems[name] == nil {
		r.elems[name] = elements{}
	}
	r.elems[name][string(slices.Concat(key...))] = string(to)
}

// endLed ends connections by ports that lead elsewhere now, or nowhere: as long as one
// of UDP is not silent it would be led where it was led first. Where the kernel does
// not tell its connections they end by themselves.
func (s *setter) endLed(was, is map[string]elements) {
	gone := ways{}
	for _, name := range []string{mapPorts, mapAnywhere} {
		for _, e := range was[name].without(is[name]) {
			gone[string(slices.Concat(e.Key[len(e.Key)-8:], e.Val))] = true
		}
	}
	s.do(len(gone) > 0, "end connections", func() error {
		_, _ = s.ConntrackDeleteFilters(netlink.ConntrackTable, unix.AF_INET, gone)
		return nil
	})
}

// ways are published ports: protocol and port of the host, address and port of a VM, as
// they are in the maps.
type ways map[string]bool

// MatchConntrackFlow implements netlink.CustomConntrackFilter.
func (w ways) MatchConntrackFlow(f *netlink.ConntrackFlow) bool {
	return w[string(slices.Concat([]byte{f.Forward.Protocol, 0, 0, 0}, service(f.Forward.DstPort), f.Reverse.SrcIP.To4(), service(f.Reverse.SrcPort)))]
}

// ofPorts says of an error of setRules what the kernel lacks for published ports.
func ofPorts(c network.Config, err error) error {
	lacks := func(e error) bool { return errors.Is(err, e) }
	if len(c.Ports) > 0 && slices.ContainsFunc([]error{unix.ENOENT, unix.EOPNOTSUPP, unix.EPROTONOSUPPORT, unix.EINVAL}, lacks) {
		return banger.Errorf(banger.HostUnready, "the kernel's nftables cannot lead published ports: %w", err).
			WithRemedy("sudo modprobe -a nft_socket nft_fib_inet nft_nat")
	}
	return err
}

// Parts of keys: a place of 4 bytes for each field.

func protocol(p banger.Proto) []byte {
	if p == banger.UDP {
		return []byte{unix.IPPROTO_UDP, 0, 0, 0}
	}
	return []byte{unix.IPPROTO_TCP, 0, 0, 0}
}

func service(port uint16) []byte { return append(binaryutil.BigEndian.PutUint16(port), 0, 0) }

// place is the n-th register of 4 bytes. They share their memory with those of 16, and
// the kernel tells the first of each four by the large one's number.
func place(n uint32) uint32 {
	if n == 0 {
		return 1
	}
	return unix.NFT_REG32_00 + n
}

type loader func(register uint32) expr.Any

func iif(to uint32) expr.Any     { return &expr.Meta{Key: expr.MetaKeyIIF, Register: to} }
func oif(to uint32) expr.Any     { return &expr.Meta{Key: expr.MetaKeyOIF, Register: to} }
func l4proto(to uint32) expr.Any { return &expr.Meta{Key: expr.MetaKeyL4PROTO, Register: to} }

func payload(base expr.PayloadBase, offset, length uint32) loader {
	return func(to uint32) expr.Any {
		return &expr.Payload{DestRegister: to, Base: base, Offset: offset, Len: length}
	}
}

var (
	sourceAt      = payload(expr.PayloadBaseNetworkHeader, 12, 4)
	destinationAt = payload(expr.PayloadBaseNetworkHeader, 16, 4)
	fromPort      = payload(expr.PayloadBaseTransportHeader, 0, 2)
	toPort        = payload(expr.PayloadBaseTransportHeader, 2, 2)
)

// load puts fields of a packet next to each other.
func load(fields ...loader) (e []expr.Any) {
	for n, f := range fields {
		e = append(e, f(place(uint32(n))))
	}
	return e
}

// toHost matches a destination that is an address of the host's.
var toHost = []expr.Any{
	&expr.Fib{Register: 1, ResultADDRTYPE: true, FlagDADDR: true},
	&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: binaryutil.NativeEndian.PutUint32(unix.RTN_LOCAL)},
}

// markedSocket matches what the kernel would give to a socket with that mark.
func markedSocket(mark uint32) []expr.Any {
	return []expr.Any{
		&expr.Socket{Key: expr.SocketKeyMark, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: binaryutil.NativeEndian.PutUint32(mark)},
	}
}

// leadBy changes where something is sent to by a map, whose key begins in register 1.
func leadBy(name string) []expr.Any {
	return []expr.Any{
		&expr.Lookup{SourceRegister: 1, DestRegister: 1, IsDestRegSet: true, SetName: name},
		&expr.NAT{Type: expr.NATTypeDestNAT, Family: unix.NFPROTO_IPV4, RegAddrMin: 1, RegAddrMax: 1, RegProtoMin: place(1), RegProtoMax: place(1), Specified: true},
	}
}

const destinationNAT = 1 << 5 // IPS_DST_NAT of linux/netfilter/nf_conntrack_common.h

var (
	// destinationChanged matches packets of connections that somebody led elsewhere.
	destinationChanged = bits(expr.CtKeySTATUS, destinationNAT, expr.CmpOpNeq)
	destinationKept    = bits(expr.CtKeySTATUS, destinationNAT, expr.CmpOpEq)

	// related matches errors about a connection.
	related = bits(expr.CtKeySTATE, expr.CtStateBitRELATED, expr.CmpOpNeq)
	// invalid matches what is of none, and begins none: nothing of it is translated.
	invalid = bits(expr.CtKeySTATE, expr.CtStateBitINVALID, expr.CmpOpNeq)
)

// bits compares some bits of what is known of a connection with none.
func bits(key expr.CtKey, mask uint32, op expr.CmpOp) []expr.Any {
	return []expr.Any{
		&expr.Ct{Key: key, Register: 1},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 4, Mask: binaryutil.NativeEndian.PutUint32(mask), Xor: make([]byte, 4)},
		&expr.Cmp{Op: op, Register: 1, Data: make([]byte, 4)},
	}
}

// direction matches packets of the side that began a connection, 0, or of the other, 1.
func direction(n byte) []expr.Any {
	return []expr.Any{&expr.Ct{Key: expr.CtKeyDIRECTION, Register: 1}, &expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{n}}}
}
