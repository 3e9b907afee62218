package daemon

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"banger"
	"banger/internal/api"
	"banger/internal/bundle"
	"banger/internal/doctor"
	"banger/internal/host"
	"banger/internal/storage"
	"banger/internal/storage/workdisk"
	"banger/internal/version"
	"banger/internal/vmm"
)

const lowSpace = 2 << 30 // bytes below which doctor warns

// Doctor implements handler.Daemon.
func (d *daemon) Doctor(ctx context.Context, r api.DoctorRequest) (api.DoctorReport, error) {
	all, err := doctor.Run(ctx, d.checks(r.Bundle), r.For)
	if err != nil {
		return api.DoctorReport{}, err
	}
	rep := api.DoctorReport{OK: doctor.Healthy(all)}
	for _, o := range all {
		rep.Checks = append(rep.Checks, api.Check{Name: o.Name, Status: string(o.Status), Message: o.Message, Remedy: o.Remedy})
	}
	return rep, nil
}

// checks are all that is looked at; named is the bundle that whoever asks would
// use, "" for the one that is found.
func (d *daemon) checks(named string) []doctor.Check {
	start := []string{"vm-start"}
	return []doctor.Check{
		{Name: "daemon", Probe: d.checkDaemon},
		{Name: "state directory", For: start, Probe: d.checkSpace},
		{Name: "backend firecracker", For: start, Probe: d.checkBackend("firecracker")},
		{Name: "backend qemu", For: start, Probe: d.checkBackend("qemu")},
		{Name: "accelerator", For: start, Probe: d.checkAccelerator},
		{Name: "storage", For: start, Probe: d.checkStorage},
		{Name: "work disks", For: []string{"vm-start", "work-disk"}, Probe: func(ctx context.Context) doctor.Result {
			err := workdisk.New(host.New(os.Getenv("PATH"))).Probe(ctx)
			return doctor.FromError(err, "mke2fs is there")
		}},
		{Name: "runtime bundle", For: start, Probe: d.checkBundle(named)},
		{Name: "network user", For: start, Needs: []string{"backend qemu"}, Probe: d.checkUsernet},
		{Name: "network routed", Probe: d.checkRouted},
		{Name: "subnet", For: start, Probe: d.checkSubnet},
		{Name: "names", Probe: d.checkNames},
		{Name: "VMs", Probe: d.checkVMs},
		{Name: "logout", Probe: d.checkLogout},
		{Name: "ssh", For: []string{"ssh"}, Probe: d.checkTool("ssh", "openssh-client")},
		{Name: "mmdebstrap", For: []string{"bundle-build"}, Probe: d.checkTool("mmdebstrap", "mmdebstrap")},
	}
}

func (d *daemon) checkDaemon(context.Context) doctor.Result {
	return doctor.Result{Status: doctor.OK, Message: fmt.Sprintf("build %s, state %s, subnet %s", version.Build(), d.layout.State, d.net().Prefix)}
}

// checkVMs tells of what is wrong with VMs, as one that is paused because the disk
// is full.
func (d *daemon) checkVMs(ctx context.Context) doctor.Result {
	vms, err := d.vms.List(ctx)
	if err != nil {
		return doctor.FromError(err, "")
	}
	return wrong(vms)
}

func wrong(vms []banger.VM) doctor.Result {
	var said, remedies []string
	for _, v := range vms {
		if p := v.Problem; p != nil {
			said = append(said, v.Name+": "+p.Message)
			if p.Remedy != "" && !slices.Contains(remedies, p.Remedy) {
				remedies = append(remedies, p.Remedy)
			}
		}
	}
	if len(said) > 0 {
		return doctor.Result{Status: doctor.Warning, Message: strings.Join(said, "; "), Remedy: cmp.Or(strings.Join(remedies, "; "), "banger ps")}
	}
	return doctor.Result{Status: doctor.OK, Message: fmt.Sprintf("%d, and nothing is wrong with them", len(vms))}
}

func (d *daemon) checkSpace(context.Context) doctor.Result {
	var st unix.Statfs_t
	if err := unix.Statfs(d.layout.State, &st); err != nil {
		return doctor.FromError(err, "")
	}
	free := int64(st.Bavail) * st.Bsize
	r := doctor.Result{Status: doctor.OK, Message: fmt.Sprintf("%s has %s free", d.layout.State, banger.FormatSize(free>>20<<20))}
	if free < lowSpace {
		r.Status, r.Remedy = doctor.Warning, "make room, or set BANGER_STATE_DIR to a larger file system"
	}
	return r
}

// checkBackend tells whether a backend works here. It fails only where new VMs
// would have no other.
func (d *daemon) checkBackend(name string) func(context.Context) doctor.Result {
	return func(ctx context.Context) doctor.Result {
		caps, err := d.backend(name).Probe(ctx)
		r := doctor.FromError(err, caps.Version)
		used, _, uerr := d.preferred(ctx)
		switch {
		case err != nil && uerr == nil:
			r.Status, r.Message = doctor.Note, "not usable, new VMs run on "+used+": "+r.Message
		case err == nil && caps.Warning != "":
			r.Status, r.Message, r.Remedy = doctor.Warning, caps.Warning, "docs/backends.md says which versions are good, and where they come from"
		}
		return r
	}
}

func (d *daemon) backend(name string) vmm.Backend {
	return d.backends[slices.IndexFunc(d.backends, func(b vmm.Backend) bool { return b.Name() == name })]
}

// preferred is the backend that a new VM gets where nothing was asked for, its
// network left aside.
func (d *daemon) preferred(ctx context.Context) (string, vmm.Caps, error) {
	var err error
	for _, b := range d.backends {
		if d.config.Backend != "" && b.Name() != d.config.Backend {
			continue
		}
		var caps vmm.Caps
		if caps, err = b.Probe(ctx); err == nil {
			return b.Name(), caps, nil
		}
	}
	return "", vmm.Caps{}, err
}

func (d *daemon) checkAccelerator(ctx context.Context) doctor.Result {
	_, caps, err := d.preferred(ctx)
	if err != nil {
		return noneWorks()
	}
	r := doctor.Result{Status: doctor.OK, Message: caps.Accelerator + ": " + caps.Why}
	if caps.Accelerator != "kvm" {
		r.Status, r.Remedy = doctor.Warning, "use a machine with hardware virtualisation, or switch on nested virtualisation, for full speed"
	}
	return r
}

// checkStorage tells what a new root disk would be, and why nothing better.
func (d *daemon) checkStorage(ctx context.Context) doctor.Result {
	_, caps, err := d.preferred(ctx)
	if err != nil {
		return noneWorks()
	}
	s, err := storage.Choose(ctx, d.layout.VMs(), caps.Formats, d.disks...)
	if err != nil {
		return doctor.FromError(err, "")
	}
	pending, err := d.snapshots.Pending(ctx)
	if err != nil {
		return doctor.FromError(err, "")
	}
	if len(pending) > 0 {
		return doctor.Result{Status: doctor.Warning, Message: s.Name() + "; banger-root has yet to remove " + strings.Join(pending, ", "),
			Remedy: "if it does not run: sudo banger-root; if it does: sudo lsof /dev/mapper/banger-*"}
	}
	r := doctor.Result{Status: doctor.OK, Message: s.Name()}
	for _, better := range d.disks[:slices.Index(d.disks, s)] {
		if e := banger.AsError(better.Probe(ctx, d.layout.VMs())); e != nil {
			r.Message += fmt.Sprintf("; not %s: %s", better.Name(), e.Message)
		}
	}
	if s.Name() == "copy" {
		r.Status, r.Remedy = doctor.Warning, "for disks that take neither time nor room: sudo apt install qemu-utils, or keep banger's state on btrfs"
	}
	return r
}

// noneWorks is what is to be said of what depends on a backend.
func noneWorks() doctor.Result {
	return doctor.Result{Status: doctor.Skipped, Message: "needs a backend that works"}
}

func (d *daemon) checkBundle(named string) func(context.Context) doctor.Result {
	return func(context.Context) doctor.Result {
		b, err := d.bundles.Find(named)
		if err != nil {
			r := doctor.FromError(err, "")
			if named != "" { // nothing but the environment names one to doctor
				r.Message += " (named by your BANGER_RUNTIME_DIR)"
			}
			return r
		}
		img := bundle.Default(b, banger.KindImage)
		return doctor.Result{Status: doctor.OK, Message: fmt.Sprintf("%s: %s (%s), kernel %s", b.Dir, img.Name, img.OS, img.Release)}
	}
}

// checkRouted fails nothing: who does not use the mode needs no banger-root.
func (d *daemon) checkRouted(ctx context.Context) doctor.Result {
	pending, err := d.routed.Pending(ctx)
	if err != nil {
		return doctor.FromError(err, "")
	}
	if e := banger.AsError(d.routed.Probe(ctx)); e != nil {
		r := doctor.Result{Status: doctor.Note, Message: "cannot be used now: " + e.Message, Remedy: e.Remedy}
		if len(pending) > 0 {
			r.Status, r.Message = doctor.Warning, "banger-root has yet to remove "+strings.Join(pending, ", ")+": "+e.Message
		}
		return r
	}
	if e := banger.AsError(d.routed.CheckNAT(ctx)); e != nil {
		return doctor.Result{Status: doctor.Note, Message: "banger-root makes taps and routes; " + e.Message, Remedy: e.Remedy}
	}
	return doctor.Result{Status: doctor.OK, Message: "banger-root makes taps, routes and NAT"}
}

func (d *daemon) checkSubnet(ctx context.Context) doctor.Result {
	n, err := d.Network(ctx)
	if err != nil {
		return doctor.FromError(err, "")
	}
	if len(n.Overlaps) > 0 {
		return doctor.Result{
			Status: doctor.Warning, Message: fmt.Sprintf("%s overlaps the host's route to %s, as a VPN brings one", n.Subnet, strings.Join(n.Overlaps, ", ")),
			Remedy: "banger stop --all && banger network move " + d.elsewhere(),
		}
	}
	return doctor.Result{Status: doctor.OK, Message: n.Subnet}
}

func (d *daemon) checkTool(tool, pkg string) func(context.Context) doctor.Result {
	return func(context.Context) doctor.Result {
		for _, dir := range strings.Split(os.Getenv("PATH"), ":") {
			if st, err := os.Stat(dir + "/" + tool); err == nil && st.Mode()&0o111 != 0 {
				return doctor.Result{Status: doctor.OK, Message: dir + "/" + tool}
			}
		}
		return doctor.Result{Status: doctor.Failed, Message: tool + " is not installed, or not in the PATH that bangerd was started with: " + os.Getenv("PATH"),
			Remedy: "sudo apt install " + pkg + "; if it is there and in your PATH: banger daemon restart"}
	}
}
