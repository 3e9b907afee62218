package matrix

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"banger"
	"banger/internal/guestapi"
	"banger/internal/network/addr"
	"banger/test/netns"
)

// The installations whose VMs have a routed network are in a network namespace
// each, with a banger-root that can be made to fail.
const routed = string(banger.NetworkRouted)

// apart gives the installation a host of its own.
func (b *box) apart() (err error) {
	if b.host, err = netns.Open(); err != nil {
		return err
	}
	b.in(func() { err = errors.Join(calmRoot(), leadToStandIn()) })
	return err
}

// in calls f where the installation's programs run: in the network namespace
// and with the /run of its own, if it has such.
func (b *box) in(f func()) {
	if b.host == nil {
		f()
		return
	}
	b.host.Do(f)
}

// standInTable is what a test adds to the rules of its own namespace.
const standInTable = "stand_in"

// leadToStandIn leads what is sent to a guest program's port to the loopback,
// where the stand-in listens: it has a tap, and no TCP behind it. The host still
// has to know a way to the VM, or nothing is sent.
func leadToStandIn() error {
	c, err := nftables.New()
	if err != nil {
		return err
	}
	t := c.AddTable(&nftables.Table{Family: nftables.TableFamilyIPv4, Name: standInTable})
	chain := c.AddChain(&nftables.Chain{
		Table: t, Name: "output", Type: nftables.ChainTypeNAT,
		Hooknum: nftables.ChainHookOutput, Priority: nftables.ChainPriorityNATDest,
	})
	c.AddRule(&nftables.Rule{Table: t, Chain: chain, Exprs: []expr.Any{
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{unix.IPPROTO_TCP}},
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2}, // destination
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: binaryutil.BigEndian.PutUint16(guestapi.Port)},
		&expr.Redir{},
	}})
	return c.Flush()
}

// viewNetwork lists what banger-root made: links, routes, neighbours and rules,
// and how many banger-roots run.
func viewNetwork(b *box, _ []process) ([]string, error) {
	if b.host == nil {
		return nil, nil
	}
	vms, _, err := b.rows()
	if err != nil {
		return nil, err
	}
	names, err := b.namesOf(vms)
	if err != nil {
		return nil, err
	}
	world, err := b.network()
	if err != nil {
		return nil, err
	}
	if roots := b.roots(); len(roots) > 1 {
		return nil, fmt.Errorf("%d banger-roots run: %v", len(roots), roots)
	}
	return networkLines(names.Replace(world)), nil
}

// network is netns.World of where the installation is.
func (b *box) network() (world string, err error) {
	b.in(func() {
		defer func() {
			if r := recover(); r != nil { // it changes while it is looked at
				err = fmt.Errorf("look at the network: %v", r)
			}
		}()
		world = netns.World()
	})
	return world, err
}

// networkLines are those of a netns.World that are banger's, as far as all
// kernels have them alike.
func networkLines(world string) (lines []string) {
	table := ""
	for line := range strings.Lines(world) {
		line = strings.TrimSpace(gatewayKind.ReplaceAllString(line, "link GATEWAY KIND"))
		what, rest, _ := strings.Cut(line, " ")
		name, _, _ := strings.Cut(rest, " ")
		switch {
		case what == "link" && name == "lo", what == "sysctl" && !strings.HasPrefix(name, "TAP"):
			continue
		case what == "table":
			table = line
		case what == "rule":
			line = "rule" // package link tests what they say
		}
		if table != "" && line != table {
			line = table + ": " + line
		}
		if !strings.Contains(table, standInTable) {
			lines = append(lines, line)
		}
	}
	return lines
}

var gatewayKind = regexp.MustCompile(`link GATEWAY (dummy|ifb|bridge)`)

// namesOf replaces what is another in each installation, and for each VM.
func (b *box) namesOf(vms []row) (*strings.Replacer, error) {
	db, err := openDB(filepath.Join(b.State, "banger.db"), "ro")
	if err != nil {
		return nil, err
	}
	defer db.Close()
	settings, err := collect[string](db, "SELECT value FROM setting ORDER BY key")
	if err != nil || len(settings) != 2 {
		return nil, fmt.Errorf("settings %q, %w", settings, err)
	}
	subnet, tag := settings[0], settings[1]
	p, err := netip.ParsePrefix(subnet)
	if err != nil {
		return nil, err
	}
	uid := uint32(os.Geteuid())
	var pairs []string
	for _, v := range vms {
		id := banger.VMID(v.id)
		a, err := netip.ParseAddr(v.address)
		if err != nil {
			return nil, err
		}
		tap := addr.TapName(uid, tag, id)
		key := make([]byte, unix.IFNAMSIZ)
		copy(key, tap)
		pairs = append(pairs,
			fmt.Sprintf("%q", append(key[:len(key):len(key)], a.AsSlice()...)), "TAP+ADDRESS",
			fmt.Sprintf("%q", key), "TAP", fmt.Sprintf("%q", a.AsSlice()), "ADDRESS",
			fmt.Sprintf("owner=%d ", addr.TapOwner(uid, tag, p, a)), "owner=OWNER ",
			tap, "TAP", addr.TapMAC(uid, tag, id), "MAC", "vm="+v.id, "vm=ID", a.String(), "ADDRESS")
	}
	gateway := p.Masked().Addr().Next()
	pairs = append(pairs, addr.GatewayName(uid, tag), "GATEWAY", addr.GatewayMAC(uid, tag), "MAC",
		"subnet="+p.Masked().String(), "subnet=SUBNET", gateway.String(), "GATEWAY-ADDRESS", "tag="+tag, "tag=TAG", fmt.Sprintf("banger_%d_%s", uid, tag), "banger_UID_TAG")
	return strings.NewReplacer(pairs...), nil
}
