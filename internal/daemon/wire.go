package daemon

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"banger"
	"banger/internal/bundle"
	"banger/internal/guest"
	"banger/internal/host"
	"banger/internal/image"
	"banger/internal/network"
	"banger/internal/network/addr"
	"banger/internal/op"
	"banger/internal/storage"
	"banger/internal/storage/clone"
	"banger/internal/storage/dmsnap"
	"banger/internal/storage/overlay"
	"banger/internal/storage/workdisk"
	"banger/internal/store"
	"banger/internal/usermanager"
	"banger/internal/version"
	"banger/internal/vm"
	"banger/internal/vmm"
	"banger/internal/vmm/firecracker"
	"banger/internal/vmm/kvm"
	"banger/internal/vmm/qemu"
)

const (
	readyLimit = 3 * time.Minute // a loaded machine under emulation: fifty times the usual
	stopLimit  = 30 * time.Second
	serialMax  = 4 << 20 // bytes
	guestName  = "banger-guest"
	cliName    = "banger"
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
		return errors.Join(d.routed.Close(), d.watcher.Close(), d.store.Close())
	}, nil
}

func (d *daemon) wireVMs(ctx context.Context) error {
	exe, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find own binary: %w", err)
	}
	if err := d.identity(ctx); err != nil {
		return err
	}
	signer, err := guest.LoadOrCreateKey(d.layout.Key())
	if err != nil {
		return err
	}
	tools := host.New(os.Getenv("PATH")).At("firecracker", d.config.Firecracker)
	d.ops = op.New(d.log, time.Now)
	d.names = &names{d: d}
	dial := dialRoot(exe)
	d.startRoot = startRoot(exe, os.Getenv("PATH"))
	d.routed = d.newRouted(dial)
	d.owners = d.owner()
	d.usernet = d.newUsernet(tools)
	d.scopes = &scoper{Host: tools, d: d, manager: usermanager.Of(os.Geteuid())}
	d.scopes.self(ctx)
	device := kvm.New(os.Geteuid(), granter(os.Geteuid()))
	device.TakeBack(ctx)
	d.backends = []vmm.Backend{
		firecracker.New(firecracker.Config{Host: d.scopes, Watcher: d.watcher, KVM: device, UID: os.Geteuid(), Now: time.Now, Log: d.log}),
		qemu.New(d.scopes, d.watcher, device, os.Geteuid(), time.Now),
	}
	d.snapshots = dmsnap.New(dmsnap.Config{
		Tag: d.tag, Dial: func(ctx context.Context) (dmsnap.Root, error) { return dial(ctx) },
		Wanted: d.haveRun, Log: d.log,
	})
	d.disks = []storage.Strategy{
		d.snapshots, clone.Reflink(), overlay.New(tools), clone.Copy(),
	}
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
	d.ssh = &sshHosts{store: d.store, layout: d.layout, banger: beside(exe, cliName), log: d.log}
	d.vms = vm.New(instrumented(vm.Config{
		Store: namedStore{d.store, d.ssh.write}, Images: images{d.images}, Backends: d.backends,
		Disks: d.disks, WorkDisks: workdisk.New(tools), Nets: []network.Attacher{d.usernet, d.routed},
		Paths: d.layout, Guests: vm.NewSSH(signer, d.log),
		IdentityFile: d.layout.Key(), AuthorizedKey: guest.AuthorizedKey(signer.PublicKey()),
		Limits:   vm.Limits{CPUs: c.CPUs, Memory: c.Memory, Disk: c.Disk, WorkDisk: c.WorkDisk, HostMemory: hostMemory},
		Timeouts: vm.Timeouts{Ready: readyLimit, Stop: stopLimit},
		Subnet:   d.net,
		Lease: func(id banger.VMID, taken []banger.Lease) (banger.Lease, error) {
			return addr.Lease(d.tag, d.net(), id, taken)
		},
		Owner: d.owners,
		Guest: beside(exe, guestName), Backend: d.config.Backend, Image: c.Image, Network: string(c.Network), NoNAT: !d.config.NAT, Isolate: d.config.Isolate,
		Autostart: d.firstSinceBoot(), Autostarted: d.recordBoot,
		SerialMax: serialMax, CutLog: host.CutLog, Room: room, Now: time.Now, Log: d.log,
	}))
	return nil
}

// owner gives each VM a user of its own where the daemon is root.
func (d *daemon) owner() func(banger.Lease) *banger.Owner {
	if os.Geteuid() != 0 {
		return func(banger.Lease) *banger.Owner { return nil }
	}
	return func(l banger.Lease) *banger.Owner {
		uid, err := addr.UID(d.tag, d.net().Prefix, l.Addr)
		if err != nil {
			// Addresses are leased from the subnet: a broken record. Nobody's
			// uid keeps its VMM from being root, and from any file.
			d.log.Error("owner of a VM", "err", err)
			uid = 0x7ffffffe
		}
		return &banger.Owner{UID: uid, GID: uid, Groups: groupsOf("/dev/kvm")}
	}
}

// groupsOf returns the group that may use a device, if it is not root's. It is
// asked at each launch: the module may be loaded, and udev give it its group, long
// after the daemon's start.
func groupsOf(device string) []uint32 {
	var st unix.Stat_t
	if unix.Stat(device, &st) != nil || st.Mode&0o060 != 0o060 || st.Gid == 0 {
		return nil
	}
	return []uint32{st.Gid}
}

// reserve is what a file system keeps for others than VMs: 2 % of it, at most this
// many bytes.
const reserve = 256 << 20

func room(dir string) (free, least int64, err error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, 0, err
	}
	return int64(st.Bavail) * st.Bsize, min(reserve, int64(st.Blocks)*st.Bsize/50), nil
}

func hostMemory() (int64, error) {
	var si unix.Sysinfo_t
	if err := unix.Sysinfo(&si); err != nil {
		return 0, err
	}
	return int64(si.Totalram) * int64(si.Unit), nil
}
