package server

import (
	"bytes"
	"errors"
	"io/fs"
	"net/netip"
	"os"
	"slices"

	"github.com/pelletier/go-toml/v2"

	"banger"
	"banger/internal/privileged"
)

// A policy narrows what is allowed, as the machine's owner wrote it. A list that
// is left out allows all; an empty one nothing.
type policy struct {
	UIDs       []uint32        `toml:"uids"`
	Subnets    []netip.Prefix  `toml:"subnets"` // in one of which a subnet lies
	Operations []privileged.Op `toml:"operations"`
}

// allow reports why the policy in the file path, which need not be there, does
// not allow a request. One that cannot be trusted or read allows nothing. To
// give back, and to end, is always allowed.
func allow(path string, uid uint32, r privileged.Request) error {
	gives := r.Op == privileged.NetworkSet && len(r.Network.Taps) == 0
	gives = gives || r.Op == privileged.ResolverSet && !r.Resolver.Server.IsValid()
	if gives || r.Op == privileged.KVMRevoke || r.Op == privileged.DiskDetach || r.Op == privileged.RootExit {
		return nil
	}
	op := r.Op
	switch op {
	case privileged.NetworkProbe: // asks whether the other would work
		op = privileged.NetworkSet
	case privileged.DiskProbe, privileged.DiskStatus:
		op = privileged.DiskAttach
	}
	err := privileged.RootOwned(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	p, err := readPolicy(path)
	if err != nil {
		return err
	}
	lies := func(in netip.Prefix) bool {
		return in.Bits() <= r.Network.Subnet.Bits() && in.Contains(r.Network.Subnet.Addr())
	}
	if (p.UIDs == nil || slices.Contains(p.UIDs, uid)) &&
		(p.Operations == nil || op == "" || slices.Contains(p.Operations, op)) &&
		(p.Subnets == nil || r.Network == nil || slices.ContainsFunc(p.Subnets, lies)) {
		return nil
	}
	return banger.Errorf(banger.HostUnready, "%s does not allow uid %d to do this (%s)", path, uid, op).
		WithRemedy("ask who looks after this machine")
}

func readPolicy(path string) (p policy, err error) {
	b, err := os.ReadFile(path)
	if err == nil {
		err = toml.NewDecoder(bytes.NewReader(b)).DisallowUnknownFields().Decode(&p)
	}
	if err != nil {
		return p, banger.Errorf(banger.HostUnready, "%s: %w", path, err).WithRemedy("sudoedit %s", path)
	}
	return p, nil
}
