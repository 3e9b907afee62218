package link

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/vishvananda/netlink"

	"banger"
	"banger/internal/network/addr"
)

// An owner is whom links belong to: a user, and of that user's installations
// the one with this tag. It is written into each link's alias, which none but
// root can write.
type owner struct {
	uid uint32
	tag string
}

func (o owner) String() string { return fmt.Sprintf("banger uid=%d tag=%s", o.uid, o.tag) }

func (o owner) gatewayAlias() string { return o.String() + " gateway" }

func (o owner) tapAlias(vm banger.VMID, a netip.Addr) string {
	return fmt.Sprintf("%s vm=%s address=%s", o, vm, a)
}

// owns reports whether alias says that a link is o's; vm is empty for the
// gateway's.
func (o owner) owns(alias string) (vm banger.VMID, ok bool) {
	rest, ok := strings.CutPrefix(alias, o.String()+" ")
	if !ok {
		return "", false
	}
	if rest == "gateway" {
		return "", true
	}
	rest, ok = strings.CutPrefix(rest, "vm=")
	id, _, spaced := strings.Cut(rest, " ")
	return banger.VMID(id), ok && spaced && banger.VMID(id).Valid()
}

// A survey is what of o's the host has now.
type survey struct {
	names   map[string]netlink.Link // all links of the host
	mine    map[int]bool            // by index: o's
	taps    map[banger.VMID]netlink.Link
	gateway netlink.Link
}

func (o owner) survey(links []netlink.Link) survey {
	s := survey{names: map[string]netlink.Link{}, mine: map[int]bool{}, taps: map[banger.VMID]netlink.Link{}}
	for _, l := range links {
		a := l.Attrs()
		s.names[a.Name] = l
		vm, ok := o.owns(a.Alias)
		// Made by a Set that died before it could write the alias: nobody else
		// has a reason for this name with this address.
		unfinished := a.Alias == "" && a.Name == addr.GatewayName(o.uid, o.tag) &&
			a.HardwareAddr.String() == addr.GatewayMAC(o.uid, o.tag)
		switch {
		case ok && vm != "":
			s.taps[vm] = l
		case ok, unfinished:
			s.gateway = l
		default:
			continue
		}
		s.mine[a.Index] = true
	}
	return s
}

// taken is the error for a link of somebody else's where o's should be.
func taken(l netlink.Link) error {
	return banger.Errorf(banger.HostUnready, "a link %s is there, and is not banger's", l.Attrs().Name).
		WithRemedy("see what it is, and delete it: ip -d link show %s", l.Attrs().Name)
}
