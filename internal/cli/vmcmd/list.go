package vmcmd

import (
	"context"
	"strconv"

	"banger"
	"banger/internal/cli/streams"

	"github.com/spf13/cobra"
)

type listOptions struct {
	format streams.Format
}

func newList(e Env) *cobra.Command {
	o := &listOptions{format: streams.Table}
	cmd := &cobra.Command{
		Use:     "list",
		Aliases: []string{"ls"},
		Short:   "List the VMs",
		Example: "  banger vm list\n  banger vm list -q\n  banger vm list -o json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := e.Connect(cmd.Context())
			if err != nil {
				return err
			}
			return runList(cmd.Context(), e, o, c)
		},
	}
	addFormat(cmd, &o.format)
	return cmd
}

func runList(ctx context.Context, e Env, o *listOptions, c lister) error {
	vms, err := c.ListVMs(ctx)
	if err != nil {
		return err
	}
	if e.IO.Quiet {
		for _, vm := range vms {
			if err := e.IO.Println(vm.Name); err != nil {
				return err
			}
		}
		return nil
	}
	if vms == nil {
		vms = []banger.VM{} // an empty list, not null
	}
	return e.IO.Print(o.format, vms, func(r *streams.Rows) {
		r.Add("NAME", "ID", "STATE", "IMAGE", "CPUS", "MEMORY", "DISK", "ADDRESS")
		for _, vm := range vms {
			r.Add(vm.Name, string(vm.ID), state(vm), vm.Image, strconv.Itoa(vm.CPUs),
				banger.FormatSize(vm.Memory), banger.FormatSize(vm.Disk), vm.Addr.String())
		}
	})
}

// state is a VM's state in a word or two.
func state(vm banger.VM) string {
	switch {
	case vm.State == banger.StateRunning && vm.Problem != nil:
		return "running (degraded)"
	case vm.State == banger.StateRunning && !vm.Ready:
		return "running (not ready)"
	}
	return string(vm.State)
}
