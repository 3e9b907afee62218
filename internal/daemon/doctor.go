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
	"banger/internal/storage/workdisk"
	"banger/internal/version"
	"banger/internal/vm"
)

const lowSpace = 2 << 30 // bytes below which doctor warns

// Doctor implements handler.Daemon.
func (d *daemon) Doctor(ctx context.Context, r api.DoctorRequest) (api.DoctorReport, error) {
	all, err := doctor.Run(ctx, d.checks(r), r.For)
	if err != nil {
		return api.DoctorReport{}, err
	}
	rep := api.DoctorReport{OK: doctor.Healthy(all)}
	for _, o := range all {
		rep.Checks = append(rep.Checks, api.Check{Name: o.Name, Status: string(o.Status), Message: o.Message, Remedy: o.Remedy})
	}
	return rep, nil
}

// checks are all that is looked at, for whoever asks.
func (d *daemon) checks(r api.DoctorRequest) []doctor.Check {
	start, p := []string{"vm-start"}, prospects{d, vm.Offer(r.Root) == vm.Offered && d.config.Defaults.Network != banger.NetworkUser}
	return []doctor.Check{
		{Name: "daemon", Probe: d.checkDaemon},
		{Name: "state directory", For: start, Probe: d.checkSpace},
		{Name: "backend firecracker", For: start, Probe: p.checkBackend("firecracker")},
		{Name: "backend qemu", For: start, Probe: p.checkBackend("qemu")},
		{Name: "accelerator", For: start, Probe: p.checkAccelerator},
		{Name: "storage", For: start, Probe: p.checkStorage},
		{Name: "work disks", For: []string{"vm-start", "work-disk"}, Probe: func(ctx context.Context) doctor.Result {
			err := workdisk.New(host.New(os.Getenv("PATH"))).Probe(ctx)
			return doctor.FromError(err, "mke2fs is there")
		}},
		{Name: "runtime bundle", For: start, Probe: d.checkBundle(r.Bundle)},
		{Name: "network user", For: start, Needs: []string{"backend qemu"}, Probe: d.checkUsernet},
		{Name: "network routed", Probe: p.checkRouted},
		{Name: "subnet", For: start, Probe: d.checkSubnet},
		{Name: "names", Probe: d.checkNames},
		{Name: "VMs", Probe: d.checkVMs},
		{Name: "logout", Probe: d.checkLogout},
		{Name: "ssh", For: []string{"ssh"}, Probe: d.checkTool("ssh", "openssh-client")},
		{Name: "mmdebstrap", For: []string{"bundle-build"}, Probe: d.checkBuilder(r)},
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

// checkBuilder fails where there is no bundle yet, and where somebody asks for that.
func (d *daemon) checkBuilder(r api.DoctorRequest) func(context.Context) doctor.Result {
	return func(ctx context.Context) doctor.Result {
		found := d.checkTool("mmdebstrap", "mmdebstrap")(ctx)
		if _, err := d.bundles.Find(r.Bundle); err == nil && found.Status == doctor.Failed && r.For == "" {
			found.Status, found.Message = doctor.Note, "to build another bundle: "+found.Message
		}
		return found
	}
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
