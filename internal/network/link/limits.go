package link

import (
	"errors"
	"net"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"banger"
	"banger/internal/network"
)

// What one guest may take of the host's table of connections, which has room for
// 65,536 on a host of 2 GiB. What it has done with, and TCP keeps for 2 minutes more,
// the kernel does not count as open: for that the number of new ones is limited, too,
// and before they are counted, since that looks at all that are open (measured: 30 µs
// with 4,000 of them, 360 with 16,000). Packets from one VM to another take nothing.
const (
	maxFlows  = 4096 // open at a time
	maxFresh  = 400  // new ones per second
	burstOver = 2000 // beyond that, at once
)

// limits are those that a Router sets.
type limits struct{ flows, fresh, burst uint32 }

// begin is the chain that what a guest begins goes through, once it may: the limits
// are its own, whatever the others do.
const begin = "begin"

var toBegin = goTo(begin)

// goTo goes on in a chain, jumpTo in a chain and then here.
func goTo(chain string) []expr.Any {
	return []expr.Any{&expr.Verdict{Kind: expr.VerdictGoto, Chain: chain}}
}

func jumpTo(chain string) []expr.Any {
	return []expr.Any{&expr.Verdict{Kind: expr.VerdictJump, Chain: chain}}
}

// limit adds the chain, and the sets that the kernel keeps each guest's numbers in.
func (r *ruleset) limit(l limits) {
	r.sets = append(r.sets,
		&nftables.Set{Table: r.table, Name: setFlows, KeyType: nftables.TypeIPAddr, Dynamic: true},
		&nftables.Set{Table: r.table, Name: setFresh, KeyType: nftables.TypeIPAddr, Dynamic: true})
	fresh := &expr.Limit{Type: expr.LimitTypePkts, Rate: uint64(l.fresh), Unit: expr.LimitTimeSecond, Burst: l.burst, Over: true}
	flows := &expr.Connlimit{Count: l.flows, Flags: expr.NFT_CONNLIMIT_F_INV}
	r.regular(begin,
		join(notNew, pass),
		join(source, keep(setFresh, fresh), drop),
		join(source, keep(setFlows, flows), drop),
		pass)
}

// ofLimits says of an error of a table that is made what the kernel may lack for it.
func ofLimits(err error) error {
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EOPNOTSUPP) {
		return banger.Errorf(banger.HostUnready, "the kernel's nftables cannot hold guests to their number of connections: %w", err).
			WithRemedy("sudo modprobe -a nft_connlimit nft_limit nft_ct; or use --network user")
	}
	return err
}

// notNew matches a packet of a connection that is known.
var notNew = []expr.Any{
	&expr.Ct{Key: expr.CtKeySTATE, Register: 1},
	&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 4, Mask: native(expr.CtStateBitNEW), Xor: native(0)},
	&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: native(0)},
}

// keep matches what e does, which each address has for itself.
func keep(set string, e expr.Any) []expr.Any {
	return []expr.Any{&expr.Dynset{SrcRegKey: 1, SetName: set, Operation: uint32(unix.NFT_DYNSET_OP_ADD), Exprs: []expr.Any{e}}}
}

// untracked takes what goes to another VM's address out of the host's table: whether
// it may pass is seen from its links alone.
func untracked(n network.Subnet) []expr.Any {
	last := n.Prefix.Addr().As4()
	for i, m := range net.CIDRMask(n.Prefix.Bits(), 32) {
		last[i] |= ^m
	}
	return join(to(n.Prefix), between(n.Resolver.Next().AsSlice(), last[:]), []expr.Any{&expr.Notrack{}})
}
