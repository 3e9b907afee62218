package daemon

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"banger"
	"banger/internal/bundle"
	"banger/internal/guest"
	"banger/internal/host"
	"banger/internal/image"
	"banger/internal/network"
	"banger/internal/network/addr"
	"banger/internal/network/usernet"
	"banger/internal/op"
	"banger/internal/storage"
	"banger/internal/storage/overlay"
	"banger/internal/store"
	"banger/internal/version"
	"banger/internal/vm"
	"banger/internal/vmm"
	"banger/internal/vmm/qemu"
)

const (
	readyLimit = 3 * time.Minute // a loaded machine under emulation: fifty times the usual
	stopLimit  = 30 * time.Second
	serialMax  = 4 << 20 // bytes
	guestName  = "banger-guest"
)

// wire makes all parts; the returned function lets go of them, VMs live on.
func (d *daemon) wire(ctx context.Context) (func() error, error) {
	var err error
	if d.store, err = store.Open(ctx, d.layout.DB()); err != nil {
		return nil, err
	}
	if d.watcher, err = host.NewWatcher(); err != nil {
		return nil, errors.Join(err, d.store.Close())
	}
	if err := d.wireVMs(ctx); err != nil {
		return nil, errors.Join(err, d.watcher.Close(), d.store.Close())
	}
	return func() error {
		d.vms.Close()
		return errors.Join(d.watcher.Close(), d.store.Close())
	}, nil
}

func (d *daemon) wireVMs(ctx context.Context) error {
	exe, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find own binary: %w", err)
	}
	subnet, err := d.identity(ctx)
	if err != nil {
		return err
	}
	signer, err := guest.LoadOrCreateKey(d.layout.Key())
	if err != nil {
		return err
	}
	tools := host.New(os.Getenv("PATH"))
	d.ops = op.New(d.log, time.Now)
	d.backends = []vmm.Backend{qemu.New(tools, d.watcher, os.Geteuid(), time.Now)}
	d.bundles = bundles{
		builder: bundle.Builder{
			Runner: tools, Version: version.Build(), UID: os.Geteuid(), User: userName(),
			SubUIDFile: "/etc/subuid", SubGIDFile: "/etc/subgid", Env: proxies(), Now: time.Now,
		},
		search: bundle.Search{Dirs: d.layout.BundleSearch(nil, exe)},
		named:  d.config.RuntimeDirs,
		images: func(ctx context.Context, b banger.Bundle, rep vm.Reporter) error {
			_, err := d.images.Register(ctx, b, "", rep)
			return err
		},
		one: make(chan struct{}, 1),
	}
	d.images = image.New(d.store, d.bundles, d.layout.Blobs(), os.Geteuid() == 0, time.Now)
	c := d.config.Defaults
	d.vms = vm.New(vm.Config{
		Store: d.store, Images: images{d.images}, Backends: d.backends,
		Disks: []storage.Strategy{overlay.New(tools)}, Nets: []network.Attacher{usernet.New()},
		Paths: d.layout, Guests: vm.NewSSH(signer, d.log),
		IdentityFile: d.layout.Key(), AuthorizedKey: guest.AuthorizedKey(signer.PublicKey()),
		Limits:   vm.Limits{CPUs: c.CPUs, Memory: c.Memory, Disk: c.Disk, HostMemory: hostMemory},
		Timeouts: vm.Timeouts{Ready: readyLimit, Stop: stopLimit},
		Subnet:   subnet,
		Lease: func(id banger.VMID, taken []banger.Lease) (banger.Lease, error) {
			return addr.Lease(d.tag, subnet, id, taken)
		},
		Owner: d.owner(subnet),
		Guest: filepath.Join(filepath.Dir(exe), guestName), Backend: d.config.Backend, Image: c.Image, Network: string(c.Network),
		SerialMax: serialMax, CutLog: host.CutLog, Now: time.Now, Log: d.log,
	})
	return nil
}

// identity reads, or chooses once and for all, the installation's tag and subnet.
func (d *daemon) identity(ctx context.Context) (network.Subnet, error) {
	var err error
	d.tag, err = d.store.Setting(ctx, "tag", func() (string, error) { return fmt.Sprintf("%04x", rand.IntN(1<<16)), nil })
	if err != nil {
		return network.Subnet{}, err
	}
	d.subnet, err = d.store.Setting(ctx, "subnet", func() (string, error) {
		taken, err := routes()
		if err != nil {
			return "", err
		}
		seed := fnv.New64a()
		seed.Write([]byte(d.tag + d.layout.State))
		p, err := addr.FreeSubnet(taken, seed.Sum64())
		return p.String(), err
	})
	if err != nil {
		return network.Subnet{}, err
	}
	p, err := netip.ParsePrefix(d.subnet)
	if err != nil {
		return network.Subnet{}, fmt.Errorf("the installation's subnet: %w", err)
	}
	return network.SubnetOf(p), nil
}

// routes are the IPv4 networks that the host knows, in all tables.
func routes() ([]netip.Prefix, error) {
	list, err := netlink.RouteListFiltered(netlink.FAMILY_V4, &netlink.Route{Table: unix.RT_TABLE_UNSPEC}, netlink.RT_FILTER_TABLE)
	if err != nil {
		return nil, fmt.Errorf("list the host's routes: %w", err)
	}
	var taken []netip.Prefix
	for _, r := range list {
		if r.Dst == nil {
			continue
		}
		if a, ok := netip.AddrFromSlice(r.Dst.IP); ok {
			ones, _ := r.Dst.Mask.Size()
			taken = append(taken, netip.PrefixFrom(a.Unmap(), ones))
		}
	}
	return taken, nil
}

// owner gives each VM a user of its own where the daemon is root.
func (d *daemon) owner(subnet network.Subnet) func(banger.Lease) *banger.Owner {
	if os.Geteuid() != 0 {
		return func(banger.Lease) *banger.Owner { return nil }
	}
	var groups []uint32
	var st unix.Stat_t
	if unix.Stat("/dev/kvm", &st) == nil && st.Mode&0o060 == 0o060 && st.Gid != 0 {
		groups = append(groups, st.Gid)
	}
	return func(l banger.Lease) *banger.Owner {
		uid, err := addr.UID(d.tag, subnet.Prefix, l.Addr)
		if err != nil {
			// Addresses are leased from the subnet: a broken record. Nobody's
			// uid keeps its VMM from being root, and from any file.
			d.log.Error("owner of a VM", "err", err)
			uid = 0x7ffffffe
		}
		return &banger.Owner{UID: uid, GID: uid, Groups: groups}
	}
}

func hostMemory() (int64, error) {
	var si unix.Sysinfo_t
	if err := unix.Sysinfo(&si); err != nil {
		return 0, err
	}
	return int64(si.Totalram) * int64(si.Unit), nil
}
