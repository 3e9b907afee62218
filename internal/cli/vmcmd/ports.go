package vmcmd

import (
	"context"
	"strconv"

	"banger"
	"banger/internal/api"
	"banger/internal/cli/streams"

	"github.com/spf13/cobra"
)

type portsOptions struct {
	vm     string
	format streams.Format
}

func newPorts(e Env) *cobra.Command {
	o := &portsOptions{format: streams.Table}
	cmd := &cobra.Command{
		Use:   "ports VM",
		Short: "List the ports that a VM publishes",
		Long: `List the ports of the host that lead to a VM: published with --publish of run,
vm create or vm set. They are open while the VM runs.`,
		Example: "  banger vm ports web\n  banger vm ports web -o json",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.vm = args[0]
			c, err := e.Connect(cmd.Context())
			if err != nil {
				return err
			}
			return runPorts(cmd.Context(), e, o, c)
		},
		ValidArgsFunction: e.vmNames(isAny),
	}
	addFormat(cmd, &o.format)
	return cmd
}

func runPorts(ctx context.Context, e Env, o *portsOptions, c shower) error {
	vm, err := c.ShowVM(ctx, api.VMRequest{VM: o.vm})
	if err != nil {
		return err
	}
	ports := vm.Publish
	if ports == nil {
		ports = []banger.Publish{} // an empty list, not null
	}
	if e.IO.Quiet {
		for _, p := range ports {
			if err := e.IO.Println(p.String()); err != nil {
				return err
			}
		}
		return nil
	}
	return e.IO.Print(o.format, ports, func(r *streams.Rows) {
		r.Add("HOST", "GUEST", "PROTOCOL", "OPEN")
		open := "no"
		if vm.State == banger.StateRunning && vm.Problem == nil {
			open = "yes"
		}
		for _, p := range ports {
			r.Add(p.Host.String(), strconv.Itoa(int(p.Guest)), string(p.Proto), open)
		}
	})
}
