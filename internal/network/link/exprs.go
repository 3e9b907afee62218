package link

import (
	"net"
	"net/netip"
	"slices"

	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

var (
	drop = []expr.Any{&expr.Verdict{Kind: expr.VerdictDrop}}
	pass = []expr.Any{&expr.Verdict{Kind: expr.VerdictAccept}}

	isIPv4 = []expr.Any{
		&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{unix.NFPROTO_IPV4}},
	}

	source      = []expr.Any{&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: 12, Len: 4}}
	destination = []expr.Any{&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: 16, Len: 4}}
	leased      = []expr.Any{
		&expr.Meta{Key: expr.MetaKeyIIFNAME, Register: 1},
		&expr.Payload{DestRegister: 2, Base: expr.PayloadBaseNetworkHeader, Offset: 12, Len: 4}, // source
		&expr.Lookup{SourceRegister: 1, SetName: setLeases},
	}
	// version4 is isIPv4, by the packet's own word, which the kernel has looked at: it
	// costs half as much.
	version4, notVersion4 = version(expr.CmpOpEq), version(expr.CmpOpNeq)
	// answers are packets of a connection that the other side began, and errors
	// about one.
	answers, notAnswers = tracked(expr.CmpOpNeq), tracked(expr.CmpOpEq)
)

func version(op expr.CmpOp) []expr.Any {
	return []expr.Any{
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: 0, Len: 1},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 1, Mask: []byte{0xf0}, Xor: []byte{0}},
		&expr.Cmp{Op: op, Register: 1, Data: []byte{0x40}},
	}
}

func tracked(op expr.CmpOp) []expr.Any {
	return []expr.Any{
		&expr.Ct{Key: expr.CtKeySTATE, Register: 1},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 4,
			Mask: binaryutil.NativeEndian.PutUint32(expr.CtStateBitESTABLISHED | expr.CtStateBitRELATED),
			Xor:  binaryutil.NativeEndian.PutUint32(0)},
		&expr.Cmp{Op: op, Register: 1, Data: binaryutil.NativeEndian.PutUint32(0)},
	}
}

// in and out match a link's name, inBy and outBy its index, against a set.
func in(set string) []expr.Any    { return meta(expr.MetaKeyIIFNAME, set) }
func out(set string) []expr.Any   { return meta(expr.MetaKeyOIFNAME, set) }
func inBy(set string) []expr.Any  { return meta(expr.MetaKeyIIF, set) }
func outBy(set string) []expr.Any { return meta(expr.MetaKeyOIF, set) }

// inPrefix matches how a link's name begins.
func inPrefix(begin string) []expr.Any {
	return []expr.Any{&expr.Meta{Key: expr.MetaKeyIIFNAME, Register: 1}, &expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte(begin)}}
}

func meta(key expr.MetaKey, set string) []expr.Any {
	return join([]expr.Any{&expr.Meta{Key: key, Register: 1}}, among(set))
}

func among(set string) []expr.Any {
	return []expr.Any{&expr.Lookup{SourceRegister: 1, SetName: set}}
}

// from matches a source in p, to a destination.
func from(p netip.Prefix) []expr.Any { return join(source, within(p)) }
func to(p netip.Prefix) []expr.Any   { return join(destination, within(p)) }

func within(p netip.Prefix) []expr.Any {
	return []expr.Any{
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 4, Mask: net.CIDRMask(p.Bits(), 32), Xor: make([]byte, 4)},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: p.Addr().AsSlice()},
	}
}

// Ports that are sent from as well, by programs that no root is trusted for.
const ntp, ike = 123, 500

// privileged matches a source port that only root can bind, but for some.
// Masquerading keeps it, and who trusts it, as NFS servers do, means the host's
// root.
func privileged(proto byte, some ...uint16) []expr.Any {
	match := []expr.Any{
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{proto}},
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 0, Len: 2},
		&expr.Cmp{Op: expr.CmpOpLt, Register: 1, Data: binaryutil.BigEndian.PutUint16(1024)},
	}
	for _, port := range some {
		match = append(match, &expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: binaryutil.BigEndian.PutUint16(port)})
	}
	return match
}

// dns is the port that names are asked for at.
const dns = 53

// at matches an IPv4 destination.
func at(address []byte) []expr.Any {
	return join(destination, []expr.Any{&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: address}})
}

// between matches an IPv4 destination from first to last.
func between(first, last []byte) []expr.Any {
	return join(destination, []expr.Any{
		&expr.Cmp{Op: expr.CmpOpGte, Register: 1, Data: first},
		&expr.Cmp{Op: expr.CmpOpLte, Register: 1, Data: last},
	})
}

// port matches a port that something is sent to.
func port(proto byte, n uint16) []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{proto}},
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: binaryutil.BigEndian.PutUint16(n)},
	}
}

// lead changes where something is sent to.
func lead(address []byte, port uint16) []expr.Any {
	return []expr.Any{
		&expr.Immediate{Register: 1, Data: address},
		&expr.Immediate{Register: 2, Data: binaryutil.BigEndian.PutUint16(port)},
		&expr.NAT{Type: expr.NATTypeDestNAT, Family: unix.NFPROTO_IPV4, RegAddrMin: 1, RegAddrMax: 1, RegProtoMin: 2, RegProtoMax: 2, Specified: true},
	}
}

// pingTo matches an echo request to an IPv4 address.
func pingTo(address []byte) []expr.Any {
	const echoRequest = 8
	return join(at(address), []expr.Any{
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{unix.IPPROTO_ICMP}},
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 0, Len: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{echoRequest}},
	})
}

func join(parts ...[]expr.Any) []expr.Any { return slices.Concat(parts...) }
