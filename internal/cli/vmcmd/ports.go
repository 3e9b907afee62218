package vmcmd

import (
	"context"
	"slices"
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
vm create or vm set. They are open while the VM runs. BY says who leads there:
passt or qemu in network mode user; in mode routed bangerd, or for what comes from
other machines the kernel.`,
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

// A port is a line of vm ports.
type port struct {
	banger.Publish
	Open bool   `json:"open"`
	By   string `json:"by,omitempty"`   // who leads there, while it is open
	Note string `json:"note,omitempty"` // why it is not the kernel, where it could be
}

func runPorts(ctx context.Context, e Env, o *portsOptions, c shower) error {
	vm, err := c.ShowVM(ctx, api.VMRequest{VM: o.vm})
	if err != nil {
		return err
	}
	ports := []port{} // an empty list, not null
	for _, p := range vm.Publish {
		line := port{Publish: p}
		if i := slices.IndexFunc(vm.OpenPorts, func(q banger.OpenPort) bool { return q.Publish == p }); i >= 0 {
			line.Open, line.By, line.Note = true, vm.OpenPorts[i].By, vm.OpenPorts[i].Note
		}
		ports = append(ports, line)
	}
	if e.IO.Quiet {
		for _, p := range ports {
			if err := e.IO.Println(p.Publish.String()); err != nil {
				return err
			}
		}
		return nil
	}
	tellPorts(e, vm)
	return e.IO.Print(o.format, ports, func(r *streams.Rows) {
		r.Add("HOST", "GUEST", "PROTOCOL", "OPEN", "BY")
		for _, p := range ports {
			open, by := "no", "-"
			if p.Open {
				open, by = "yes", p.By
			}
			r.Add(p.Host.String(), strconv.Itoa(int(p.Guest)), string(p.Proto), open, by)
		}
	})
}

// tellPorts says why ports are led by others than they could be.
func tellPorts(e Env, vm banger.VM) {
	told := map[string]bool{}
	for _, p := range vm.OpenPorts {
		if p.Note != "" && !told[p.Note] {
			told[p.Note] = true
			e.IO.Note("led by %s alone: %s", p.By, p.Note)
		}
	}
}
