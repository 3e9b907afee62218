package vm_test

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"banger"
	"banger/internal/host"
	"banger/internal/layout"
	"banger/internal/network"
	"banger/internal/network/addr"
	"banger/internal/steps"
	"banger/internal/storage"
	"banger/internal/store"
	"banger/internal/vm"
	"banger/internal/vmm"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A world is a pretend host: what a VM needs is a line in it. Records and
// directories are real, and part of what it prints.
type world struct {
	t      *testing.T
	layout layout.Layout
	store  *store.Store

	mu        sync.Mutex
	lines     map[string]bool
	procs     map[string]*process // by launch ID
	sizes     map[banger.VMID]int64
	works     map[banger.VMID]int64 // sizes of work disks
	lack      string                // what guests say that they do without
	mute      bool                  // guests do not answer
	early     bool                  // VMMs end at once
	deaf      bool                  // guests are asked to shut down and do not
	offline   error                 // networks cannot be had
	note      string                // why networks are not better
	broken    error                 // records cannot be changed
	later     atomic.Int64          // how far its clock is ahead, ns
	patience  time.Duration         // until a guest must have answered
	configure func(*vm.Config)      // changes the next daemon, may be nil
	system    func(*process) string // what a guest's init says, may be nil: running
	blank     bool                  // VMMs that a new daemon finds have no guest yet
	stuck     chan struct{}         // if not nil: VMMs answer no new daemon until it is closed
	cut       chan struct{}         // closed: networks are gone
	format    banger.DiskFormat     // of disks
	stalls    bool                  // VMMs stall by themselves
	hung      string                // the VM whose VMM does not answer
	full      bool                  // they do so from the start
}

func newWorld(t *testing.T) *world {
	t.Helper()
	dir := t.TempDir()
	w := &world{
		t: t, lines: map[string]bool{}, procs: map[string]*process{}, sizes: map[banger.VMID]int64{}, works: map[banger.VMID]int64{}, format: banger.FormatQCOW2,
		patience: 10 * time.Second, cut: make(chan struct{}),
	}
	w.layout = layout.Layout{State: filepath.Join(dir, "s"), Run: filepath.Join(dir, "r")}
	if err := w.layout.Prepare(); err != nil {
		t.Fatal(err)
	}
	for _, f := range []string{"guest", "initramfs"} {
		if err := os.WriteFile(filepath.Join(dir, f), []byte(f), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var err error
	if w.store, err = store.Open(t.Context(), w.layout.DB()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.store.Close() })
	img := banger.Image{ID: "0123456789ab", Name: "debian", Default: true, Rootfs: banger.Artifact{Digest: digest(1), Size: 1 << 30},
		Kernel: banger.Artifact{Digest: digest(2)}, Initramfs: banger.Artifact{Digest: digest(3)}, Modules: banger.Artifact{Digest: digest(4)}}
	if err := w.store.PutImage(t.Context(), img); err != nil {
		t.Fatal(err)
	}
	return w
}

func digest(n int) banger.Digest { return banger.Digest(fmt.Sprintf("sha256:%064x", n)) }

// manager is a daemon in this world; an earlier one may have been killed.
func (w *world) manager(hook func(banger.VMID, string, steps.Phase) error) *vm.Manager {
	dir := filepath.Dir(w.layout.State)
	subnet := network.SubnetOf(netip.MustParsePrefix("10.9.0.0/20"))
	c := vm.Config{
		Store: records{w.store, w}, Images: images{w}, Backends: []vmm.Backend{backend{w}}, Disks: []storage.Strategy{disks{w}}, WorkDisks: workDisks{w},
		Nets: []network.Attacher{nets{w}}, Paths: w.layout, Guests: guests{w},
		Limits:   vm.Limits{CPUs: 2, Memory: 1 << 30, Disk: 4 << 30, WorkDisk: 2 << 30, HostMemory: func() (int64, error) { return 8 << 30, nil }},
		Timeouts: vm.Timeouts{Ready: w.patience, Stop: 10 * time.Second}, Subnet: func() network.Subnet { return subnet },
		Lease: func(id banger.VMID, taken []banger.Lease) (banger.Lease, error) {
			return addr.Lease("ab12", subnet, id, taken)
		},
		Owner: func(banger.Lease) *banger.Owner { return nil },
		Guest: filepath.Join(dir, "guest"), Now: func() time.Time { return time.Now().Add(time.Duration(w.later.Load())) }, Log: slog.New(slog.DiscardHandler), Hook: hook,
		SerialMax: 8 << 10, CutLog: host.CutLog,
	}
	if w.configure != nil {
		w.configure(&c)
	}
	m := vm.New(c)
	w.t.Cleanup(m.Close)
	return m
}

func (w *world) set(line string) { w.mu.Lock(); defer w.mu.Unlock(); w.lines[line] = true }

// console appends to a VM's serial log.
func (w *world) console(path, text string) {
	f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		w.t.Error(err)
		return
	}
	defer f.Close()
	if _, err := f.WriteString(text); err != nil {
		w.t.Error(err)
	}
}

func (w *world) unset(line string) { w.mu.Lock(); defer w.mu.Unlock(); delete(w.lines, line) }

// String prints the world: pretend things, records, directories.
func (w *world) String() string {
	var all []string
	w.mu.Lock()
	for l := range w.lines {
		all = append(all, l)
	}
	w.mu.Unlock()
	recs, err := w.store.VMs(context.Background())
	if err != nil {
		w.t.Fatal(err)
	}
	for _, r := range recs {
		all = append(all, fmt.Sprintf("record %s %s run=%v", r.Spec.Name, r.Intent, r.Run != nil))
	}
	for _, dir := range []string{w.layout.VMs(), w.layout.RunVMs()} {
		filepath.WalkDir(dir, func(p string, d os.DirEntry, err error) error {
			if err == nil && p != dir {
				rel, _ := filepath.Rel(filepath.Dir(w.layout.State), p)
				all = append(all, "path "+rel)
			}
			return nil
		})
	}
	sort.Strings(all)
	return strings.Join(all, "\n")
}

// records is the store, unless records cannot be changed.
type records struct {
	*store.Store
	w *world
}

func (r records) UpdateVM(ctx context.Context, id banger.VMID, change func(*banger.Record) error) (banger.Record, error) {
	if r.w.broken != nil {
		return banger.Record{}, r.w.broken
	}
	return r.Store.UpdateVM(ctx, id, change)
}

type images struct{ w *world }

func (i images) Resolve(ctx context.Context, name, _ string, _ vm.Reporter) (banger.Image, error) {
	if name == "" {
		return i.w.store.DefaultImage(ctx)
	}
	return i.w.store.Image(ctx, name)
}

func (i images) Files(context.Context, banger.Image) (vm.Files, error) {
	return vm.Files{Initramfs: filepath.Join(filepath.Dir(i.w.layout.State), "initramfs")}, nil
}

func (images) Collect(context.Context) error { return nil }

type disks struct{ w *world }

func (disks) Name() string                        { return "pretend" }
func (s disks) Format() banger.DiskFormat         { return s.w.format }
func (disks) Probe(context.Context, string) error { return nil }
func (s disks) Create(_ context.Context, _ storage.Base, d storage.Disk) error {
	s.w.set("disk " + string(d.VM))
	return s.resize(d, d.Size)
}

func (s disks) resize(d storage.Disk, size int64) error {
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	s.w.sizes[d.VM] = size
	return nil
}

func (s disks) Size(d storage.Disk) (int64, error) {
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	return s.w.sizes[d.VM], nil
}

func (s disks) Attach(_ context.Context, _ storage.Base, d storage.Disk) (string, error) {
	s.w.set("attached " + string(d.VM))
	return "/disk", nil
}
func (s disks) Detach(_ context.Context, d storage.Disk) error {
	s.w.unset("attached " + string(d.VM))
	return nil
}
func (s disks) Grow(_ context.Context, _ storage.Base, d storage.Disk, size int64) error {
	return s.resize(d, size)
}
func (s disks) Remove(_ context.Context, d storage.Disk) error {
	s.w.unset("disk " + string(d.VM))
	return nil
}

type workDisks struct{ w *world }

func (k workDisks) Create(_ context.Context, d storage.Disk, uuid string) error {
	k.w.set("work disk " + string(d.VM) + " " + uuid)
	return k.Grow(d)
}

func (k workDisks) Attach(d storage.Disk) (string, error) {
	if size, _ := k.Size(d); size == 0 {
		return "", banger.Errorf(banger.NotFound, "the work disk of VM %s is gone", d.VM)
	}
	return "/work", nil
}

func (k workDisks) Size(d storage.Disk) (int64, error) {
	k.w.mu.Lock()
	defer k.w.mu.Unlock()
	return k.w.works[d.VM], nil
}

func (k workDisks) Grow(d storage.Disk) error {
	k.w.mu.Lock()
	defer k.w.mu.Unlock()
	k.w.works[d.VM] = max(k.w.works[d.VM], d.Size)
	return nil
}

func (k workDisks) Remove(d storage.Disk) error {
	k.w.mu.Lock()
	defer k.w.mu.Unlock()
	delete(k.w.works, d.VM)
	for line := range k.w.lines {
		if strings.HasPrefix(line, "work disk "+string(d.VM)) {
			delete(k.w.lines, line)
		}
	}
	return nil
}

type nets struct{ w *world }

func (n nets) Probe(context.Context) error { return n.w.offline }
func (nets) Mode() banger.NetworkMode      { return banger.NetworkUser }
func (n nets) Attach(_ context.Context, c network.NIC, _ *banger.Endpoint) (banger.Endpoint, error) {
	n.w.set("network " + string(c.VM))
	return banger.Endpoint{User: &banger.UserNet{}, Note: n.w.note, SSH: netip.MustParseAddrPort("127.0.0.1:1")}, nil
}
func (n nets) Detach(_ context.Context, c network.NIC) error {
	n.w.unset("network " + string(c.VM))
	return nil
}

// CheckPublish implements network.Publisher: port 1 is nobody's.
func (nets) CheckPublish(ports []banger.Publish, _ bool) error {
	for _, p := range ports {
		if p.Host.Port() == 1 {
			return banger.Errorf(banger.HostUnready, "port 1 is privileged")
		}
	}
	return nil
}

// Lost implements network.Fragile.
func (n nets) Lost(banger.VMID) (<-chan struct{}, func() error) {
	return n.w.cut, func() error { return banger.Errorf(banger.HostUnready, "its network is gone").WithRemedy("restart it") }
}

// quiet hears nothing.
type quiet struct{}

func (quiet) Step(string)                    {}
func (quiet) StepDone(string, time.Duration) {}
func (quiet) Progress(string, int64, int64)  {}
func (quiet) Message(string, ...any)         {}

func ptr[T any](v T) *T { return &v }
