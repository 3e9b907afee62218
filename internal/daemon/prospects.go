package daemon

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"

	"banger"
	"banger/internal/doctor"
	"banger/internal/network/addr"
	"banger/internal/storage"
	"banger/internal/vmm"
)

// prospects are what a new VM would get where nothing was asked for, as doctor tells it.
type prospects struct {
	*daemon
	offered bool // whoever asks starts a banger-root that does not run, if sudo asks no question
}

// backend returns the one of that name.
func (d *daemon) backend(name string) vmm.Backend {
	return d.backends[slices.IndexFunc(d.backends, func(b vmm.Backend) bool { return b.Name() == name })]
}

// chosen is the backend that a new VM gets; the error is that of the last one.
func (p prospects) chosen(ctx context.Context) (string, vmm.Caps, error) {
	var err error
	for _, b := range p.backends {
		if p.config.Backend != "" && b.Name() != p.config.Backend {
			continue
		}
		var caps vmm.Caps
		if caps, err = b.Probe(ctx); err == nil {
			err = p.network(ctx, caps)
		}
		if err == nil {
			return b.Name(), caps, nil
		}
	}
	return "", vmm.Caps{}, err
}

// network is why a VM that nobody chose a network for gets none that suits a backend.
func (p prospects) network(ctx context.Context, caps vmm.Caps) error {
	if !caps.NeedsTap {
		return nil
	}
	if mode := p.config.Defaults.Network; mode == banger.NetworkUser {
		return banger.Errorf(banger.WrongState, "mode %s is configured", mode).WithRemedy("use --network routed where you want it")
	}
	err := p.routed.Probe(ctx)
	if p.comes(err) {
		return nil
	}
	return err
}

// comes reports whether err is that banger-root does not run, which will start when a
// VM needs it.
func (p prospects) comes(err error) bool {
	return p.offered && banger.CodeOf(err) == banger.NeedsRoot
}

// checkBackend tells whether a backend works here, and whether new VMs get it. It fails
// only where they would have no other.
func (p prospects) checkBackend(name string) func(context.Context) doctor.Result {
	return func(ctx context.Context) doctor.Result {
		caps, err := p.backend(name).Probe(ctx)
		r := doctor.FromError(err, caps.Version)
		used, _, uerr := p.chosen(ctx)
		if err != nil {
			if uerr == nil {
				r.Status, r.Message = doctor.Note, "not usable, new VMs run on "+used+": "+r.Message
			}
			return r
		}
		if e := banger.AsError(p.network(ctx, caps)); e != nil && uerr == nil {
			r = doctor.Result{Status: doctor.Note, Message: fmt.Sprintf("%s works, but new VMs run on %s: it needs network mode routed: %s", caps.Version, used, e.Message), Remedy: e.Remedy}
		}
		if caps.Warning != "" {
			r.Status, r.Message = doctor.Warning, strings.TrimPrefix(r.Message+"; ", caps.Version+"; ")+caps.Warning
			r.Remedy = strings.TrimPrefix(r.Remedy+"; ", "; ") + "docs/backends.md says which versions are good, and where they come from"
		}
		return r
	}
}

func (p prospects) checkAccelerator(ctx context.Context) doctor.Result {
	_, caps, err := p.chosen(ctx)
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
func (p prospects) checkStorage(ctx context.Context) doctor.Result {
	_, caps, err := p.chosen(ctx)
	if err != nil {
		return noneWorks()
	}
	pending, err := p.snapshots.Pending(ctx)
	if err != nil {
		return doctor.FromError(err, "")
	}
	r, err := p.disk(ctx, caps)
	if err != nil {
		return doctor.FromError(err, "")
	}
	if len(pending) > 0 {
		return doctor.Result{Status: doctor.Warning, Message: r.Message + "; banger-root has yet to remove " + strings.Join(pending, ", "),
			Remedy: "if it does not run: " + p.startRoot + "; if it does: sudo lsof /dev/mapper/banger-*"}
	}
	return r
}

// disk is a new root disk, and what would make a better one of it.
func (p prospects) disk(ctx context.Context, caps vmm.Caps) (doctor.Result, error) {
	var refused, remedies []string
	for _, st := range p.disks {
		if !slices.Contains(caps.Formats, st.Format()) {
			continue
		}
		err := st.Probe(ctx, p.layout.VMs())
		if p.comes(err) {
			return doctor.Result{Status: doctor.OK, Message: st.Name() + ", once banger-root runs"}, nil
		}
		if e := banger.AsError(err); e != nil {
			refused = append(refused, fmt.Sprintf("; not %s: %s", st.Name(), e.Message))
			remedies = append(remedies, e.Remedy)
			continue
		}
		r := doctor.Result{Status: doctor.OK, Message: st.Name() + strings.Join(refused, "")}
		if st.Name() == "copy" {
			r.Status, r.Remedy = doctor.Warning, "for disks that take neither time nor room: "+strings.Join(remedies, "; or: ")
		}
		return r, nil
	}
	_, err := storage.Choose(ctx, p.layout.VMs(), caps.Formats, p.disks...)
	return doctor.Result{}, err
}

// noneWorks is what is to be said of what depends on a backend.
func noneWorks() doctor.Result {
	return doctor.Result{Status: doctor.Skipped, Message: "needs a backend that works"}
}

// checkRouted fails nothing: who does not use the mode needs no banger-root.
func (p prospects) checkRouted(ctx context.Context) doctor.Result {
	pending, err := p.routed.Pending(ctx)
	if err != nil {
		return doctor.FromError(err, "")
	}
	if e := banger.AsError(p.routed.Probe(ctx)); e != nil {
		r := doctor.Result{Status: doctor.Note, Message: "cannot be used now: " + e.Message, Remedy: e.Remedy}
		if p.comes(e) {
			r.Message = e.Message + "; banger run and vm create start it, if sudo asks no password for it"
		}
		if len(pending) > 0 {
			r.Status, r.Message = doctor.Warning, "banger-root has yet to remove "+strings.Join(pending, ", ")+": "+e.Message
		}
		return r
	}
	if e := banger.AsError(p.routed.CheckNAT(ctx)); e != nil {
		return doctor.Result{Status: doctor.Note, Message: "banger-root makes taps and routes; " + e.Message, Remedy: e.Remedy}
	}
	modules, _ := os.ReadFile("/proc/modules")
	return routing(string(modules), addr.TapPrefix(p.tag))
}

// routing is what works, by the kernel's modules that are loaded: the one of
// iptables-legacy may hold rules that drop what VMs send. banger-root puts nothing before
// those (docs/networking.md), and the table itself only root may look at.
func routing(modules, taps string) doctor.Result {
	r := doctor.Result{Status: doctor.OK, Message: "banger-root makes taps, routes and NAT"}
	if strings.HasPrefix(modules, "iptable_filter ") || strings.Contains(modules, "\niptable_filter ") {
		r.Status = doctor.Note
		r.Message += "; rules of iptables-legacy, whose table is loaded, it does not see, which may drop what VMs send"
		r.Remedy = fmt.Sprintf("where VMs reach nothing: sudo iptables-legacy -I FORWARD -i %[1]s+ -j ACCEPT; sudo iptables-legacy -I FORWARD -o %[1]s+ -j ACCEPT", taps)
	}
	return r
}
