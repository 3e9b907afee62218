package vmcmd

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"banger"
	"banger/internal/api"
	"banger/internal/cli/streams"

	"github.com/spf13/cobra"
)

type shower interface {
	ShowVM(ctx context.Context, r api.VMRequest) (banger.VM, error)
}

type showOptions struct {
	vm     string
	format streams.Format
}

func newShow(e Env) *cobra.Command {
	o := &showOptions{format: streams.Table}
	cmd := &cobra.Command{
		Use:     "show VM",
		Short:   "Show all that is known of a VM",
		Example: "  banger vm show web\n  banger vm show web -o json",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.vm = args[0]
			c, err := e.Connect(cmd.Context())
			if err != nil {
				return err
			}
			return runShow(cmd.Context(), e, o, c)
		},
		ValidArgsFunction: e.vmNames(isAny),
	}
	addFormat(cmd, &o.format)
	return cmd
}

func runShow(ctx context.Context, e Env, o *showOptions, c shower) error {
	vm, err := c.ShowVM(ctx, api.VMRequest{VM: o.vm})
	if err != nil {
		return err
	}
	if e.IO.Quiet {
		return e.IO.Println(vm.Name)
	}
	return e.IO.Print(o.format, vm, func(r *streams.Rows) { describe(r, vm) })
}

func describe(r *streams.Rows, vm banger.VM) {
	r.Add("Name", vm.Name)
	r.Add("ID", string(vm.ID))
	r.Add("State", state(vm))
	if vm.Problem != nil {
		r.Add("Problem", vm.Problem.Message)
		r.Add("Remedy", vm.Problem.Remedy)
	}
	r.Add("Image", fmt.Sprintf("%s (%s)", vm.Image, vm.ImageID))
	r.Add("CPUs", strconv.Itoa(vm.CPUs))
	r.Add("Memory", banger.FormatSize(vm.Memory))
	r.Add("Disk", banger.FormatSize(vm.Disk))
	if vm.WorkDisk > 0 {
		r.Add("Work disk", banger.FormatSize(vm.WorkDisk)+", on /root")
	}
	r.Add("Network", network(vm))
	if vm.StackNote != "" {
		r.Add("Note", vm.StackNote)
	}
	for _, p := range vm.Publish {
		r.Add("Published", p.String())
	}
	if len(vm.AllowHost) > 0 {
		r.Add("Host's ports", joinPorts(vm.AllowHost))
	}
	r.Add("Address", vm.Addr.String())
	r.Add("MAC", vm.MAC)
	r.Add("Backend", vm.Backend)
	if vm.Autostart {
		r.Add("Autostart", "with the daemon")
	}
	if vm.PID != 0 {
		r.Add("Accelerator", vm.Accelerator)
		r.Add("PID", strconv.Itoa(vm.PID))
	}
	r.Add("Created", moment(vm.CreatedAt))
	r.Add("Started", moment(vm.StartedAt))
	if x := vm.LastExit; x != nil {
		text := string(x.Cause)
		if x.Reboot {
			text += ", reboot"
		}
		if x.Detail != "" {
			text += ": " + x.Detail
		}
		r.Add("Last end", moment(x.At)+", "+text)
	}
	r.Add("Serial log", vm.SerialLog)
	r.Add("VMM log", vm.VMMLog)
}

// network is a VM's network mode and what it is made of while it runs.
func network(vm banger.VM) string {
	words := []string{string(vm.Network)}
	if vm.Stack != "" {
		words = append(words, "by "+vm.Stack)
	}
	if vm.Isolated {
		words = append(words, "isolated")
	}
	switch {
	case vm.Network != banger.NetworkRouted:
	case vm.NAT == banger.NATOff:
		words = append(words, "no NAT")
	default:
		words = append(words, "NAT "+string(vm.NAT))
	}
	return strings.Join(words, ", ")
}

func moment(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.Local().Format(time.DateTime)
}
