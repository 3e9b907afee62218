package link

import (
	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"

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
		r.element(setHosts, t.Addr.AsSlice(), protocol(p.Proto), service(p.Port))
	}
}

// allowed matches what is sent to a port of the gateway's address that its sender is
// let to. From a privileged port of its own it is not: to who trusts those, as NFS
// servers do, it would speak as the root that the host's user is not.
func allowed(gateway []byte) []expr.Any {
	return join(at(gateway), load(sourceAt, l4proto, toPort), among(setHosts),
		load(fromPort), []expr.Any{&expr.Cmp{Op: expr.CmpOpGte, Register: 1, Data: binaryutil.BigEndian.PutUint16(1024)}})
}

// replies are answers in a connection that the host began, and errors about any. What a
// guest sends in one that it began is asked each time whether it still may.
var replies = join(direction(1), answers)

func native(n uint32) []byte { return binaryutil.NativeEndian.PutUint32(n) }
