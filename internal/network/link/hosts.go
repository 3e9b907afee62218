package link

import (
	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"banger"
	"banger/internal/network"
)

// hostsSet holds a guest's address, a protocol and a port, each in 4 bytes.
func hostsSet(t *nftables.Table) *nftables.Set {
	key := nftables.MustConcatSetType(nftables.TypeIPAddr, nftables.TypeInetProto, nftables.TypeInetService)
	return &nftables.Set{Table: t, Name: setHosts, KeyType: key, Concatenation: true}
}

// allow adds the elements of one tap.
func (r *ruleset) allow(t network.Tap) {
	for _, p := range t.Allow {
		proto := byte(unix.IPPROTO_TCP)
		if p.Proto == banger.UDP {
			proto = unix.IPPROTO_UDP
		}
		port := binaryutil.BigEndian.PutUint16(p.Port)
		r.element(setHosts, t.Addr.AsSlice(), []byte{proto, 0, 0, 0}, port, []byte{0, 0})
	}
}

// allowed matches what is sent to a port of the gateway's address that its sender is
// let to. From a privileged port of its own it is not: to who trusts those, as NFS
// servers do, it would speak as the root that the host's user is not.
func allowed(gateway []byte) []expr.Any {
	const second, third = unix.NFT_REG32_01, unix.NFT_REG32_02 // after register 1, which begins with NFT_REG32_00
	return join(destination, []expr.Any{
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: gateway},
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: second},
		&expr.Payload{DestRegister: third, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
	}, source, among(setHosts), []expr.Any{
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 0, Len: 2},
		&expr.Cmp{Op: expr.CmpOpGte, Register: 1, Data: binaryutil.BigEndian.PutUint16(1024)},
	})
}

// replies are answers in a connection that the host began, and errors about any. What a
// guest sends in one that it began is asked each time whether it still may.
var replies = join([]expr.Any{
	&expr.Ct{Key: expr.CtKeyDIRECTION, Register: 1},
	&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{1}},
}, answers)

func native(n uint32) []byte { return binaryutil.NativeEndian.PutUint32(n) }
