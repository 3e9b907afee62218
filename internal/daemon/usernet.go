package daemon

import (
	"context"
	"os"

	"banger"
	"banger/internal/doctor"
	"banger/internal/guestapi"
	"banger/internal/host"
	"banger/internal/network"
	"banger/internal/network/usernet"
	"banger/internal/network/usernet/passt"
)

// newUsernet is network mode user.
func (d *daemon) newUsernet(tools *host.Host) *usernet.Attacher {
	return usernet.New(usernet.Config{
		Stack: d.config.UserNetwork,
		Passt: passt.New(tools, d.watcher, os.Geteuid()),
		Place: func(id banger.VMID) passt.Place {
			return passt.Place{Socket: d.layout.NetSocket(id), Mark: d.layout.NetMark(id), Log: d.layout.VMMLog(id)}
		},
		GuestPort: guestapi.Port, Log: d.log,
	})
}

// checkUsernet says which stack the next VM's network is, and what its guest
// reaches.
func (d *daemon) checkUsernet(ctx context.Context) doctor.Result {
	caps, err := d.backend("qemu").Probe(ctx)
	if err != nil { // and VMs run on another, or the check is skipped
		return doctor.Result{Status: doctor.Note, Message: "needs QEMU", Remedy: banger.AsError(err).Remedy}
	}
	subnet := d.net()
	first := subnet.Resolver.Next() // that a VM may have
	found := d.usernet.Assess(ctx, network.NIC{Addr: first, Net: subnet, Owner: d.owners(banger.Lease{Addr: first}), Stream: caps.Stream})
	if found.Err != nil {
		return doctor.FromError(found.Err, "")
	}
	return doctor.Result{Status: doctor.Note, Message: found.Message, Remedy: found.Remedy}
}
