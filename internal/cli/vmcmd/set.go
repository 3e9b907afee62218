package vmcmd

import (
	"context"

	"banger"
	"banger/internal/api"

	"github.com/spf13/cobra"
)

type setter interface {
	SetVM(ctx context.Context, r api.SetRequest) (banger.VM, error)
}

type setOptions struct {
	vm string
	spec
	also   ports[banger.Publish]
	unport ports[banger.HostPort]
}

func newSet(e Env) *cobra.Command {
	o := &setOptions{also: published(false), unport: ofHost("HOST[/udp]", false)}
	cmd := &cobra.Command{
		Use:   "set VM",
		Short: "Change a VM",
		Long: `Change a VM that is stopped. What is left out stays; disks can only grow. The
name, --autostart and --nat can be changed while it runs, too; its guest takes the
new name at its next start, and --nat takes effect at once. So do ports, --isolated
and --allow-host in network mode routed. The ports of --publish take the place of all
that the VM published; --add-publish adds to them, and --unpublish takes single ones
away. Those of --allow-host take the place of all that it was let to.`,
		Example: "  banger vm set web --cpu 4 --memory 8GiB\n  banger vm set web --work-disk 40GiB\n  banger vm set web --name shop --autostart\n  banger vm set web --backend qemu --network user\n  banger vm set web --publish 8080:80 --publish 5353:53/udp\n  banger vm set web --publish none\n  banger vm set web --unpublish 8080 --add-publish 0.0.0.0:8080:80\n  banger vm set web --nat=false\n  banger vm set web --allow-host 5432 --allow-host 53/udp\n  banger vm set web --allow-host none --isolated",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.vm = args[0]
			if cmd.Flags().NFlag() == 0 {
				return banger.Errorf(banger.Invalid, "nothing to change").WithRemedy("see: banger vm set --help")
			}
			c, err := e.Connect(cmd.Context())
			if err != nil {
				return err
			}
			return runSet(cmd.Context(), e, o, c)
		},
		ValidArgsFunction: e.vmNames(isAny),
	}
	o.addChangeable(cmd)
	f := cmd.Flags()
	f.Var(&o.name, "name", "its new name; address and disk stay")
	f.Var(&o.also, "add-publish", "lead a port of the host to it, besides those that it publishes; may be repeated")
	f.Var(&o.unport, "unpublish", "lead that port of the host to it no more; may be repeated")
	complete(cmd, "add-publish", nil)
	_ = cmd.RegisterFlagCompletionFunc("unpublish", e.hostPorts) // it exists
	return cmd
}

func runSet(ctx context.Context, e Env, o *setOptions, c setter) error {
	o.cpus.warn(e)
	r := api.SetRequest{
		VM:   o.vm,
		CPUs: o.cpus.Optional, Memory: o.memory.Optional, Disk: o.disk.Optional, WorkDisk: o.work.Optional,
		Network: o.network.Optional, Backend: o.backend.Optional, Publish: o.publish.Optional, Isolated: o.alone.Optional, NAT: o.nat.Optional, AllowHost: o.allow.Optional,
		Name: o.name.Optional, Autostart: o.autostart.Optional,
		AddPublish: o.also.Optional, Unpublish: o.unport.Optional,
	}
	vm, err := c.SetVM(ctx, r)
	if banger.CodeOf(err) == banger.NeedsRoot && e.StartRoot != nil {
		if err = e.StartRoot(ctx, err.Error()); err == nil {
			vm, err = c.SetVM(ctx, r)
		}
	}
	if err != nil {
		return err
	}
	if r.Publish.Set || r.AddPublish.Set || r.Unpublish.Set {
		tellPorts(e, vm)
	}
	return e.IO.Println(vm.Name)
}
