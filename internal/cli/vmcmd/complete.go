package vmcmd

import (
	"context"
	"slices"

	"banger"
	"banger/internal/cli/streams"

	"github.com/spf13/cobra"
)

// complete lets the shell complete a flag from fixed words.
func complete(cmd *cobra.Command, flag string, words []string) {
	// The only error is a flag that does not exist, which tests would find.
	_ = cmd.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(words, cobra.ShellCompDirectiveNoFileComp))
}

// addFormat adds -o.
func addFormat(cmd *cobra.Command, f *streams.Format) {
	cmd.Flags().VarP(f, "output", "o", "table, json or yaml")
	complete(cmd, "output", streams.Formats())
}

// vmNames lets the shell complete arguments from the VMs that fit, except those
// that are there already. It starts no daemon: a key press is no reason.
func (e Env) vmNames(fits func(banger.VM) bool) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		const none = cobra.ShellCompDirectiveNoFileComp
		ctx := background(cmd)
		c, err := e.Find(ctx)
		// cobra itself puts a "--" behind all arguments when it completes; one
		// before any of them is the user's, and a guest's command follows it.
		if dash := cmd.ArgsLenAtDash(); err != nil || dash >= 0 && dash < len(args) {
			return nil, none
		}
		vms, err := c.ListVMs(ctx)
		if err != nil {
			return nil, none
		}
		var names []string
		for _, vm := range vms {
			if fits(vm) && !slices.Contains(args, vm.Name) {
				names = append(names, vm.Name)
			}
		}
		return names, none
	}
}

// hostPorts completes the ports of the host that the VM in front publishes.
func (e Env) hostPorts(cmd *cobra.Command, args []string, _ string) (ports []string, _ cobra.ShellCompDirective) {
	const none = cobra.ShellCompDirectiveNoFileComp
	ctx := background(cmd)
	c, err := e.Find(ctx)
	if err != nil || len(args) == 0 {
		return nil, none
	}
	vms, err := c.ListVMs(ctx)
	if err != nil {
		return nil, none
	}
	for _, vm := range vms {
		for _, p := range vm.Publish {
			if vm.Name == args[0] {
				ports = append(ports, banger.HostPort{Port: p.Host.Port(), Proto: p.Proto}.String())
			}
		}
	}
	return ports, none
}

// imager is asked for names only: images have commands of their own.
type imager interface {
	ListImages(ctx context.Context) ([]banger.Image, error)
}

// imageNames is the same for images.
func (e Env) imageNames(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	const none = cobra.ShellCompDirectiveNoFileComp
	ctx := background(cmd)
	c, err := e.Find(ctx)
	if err != nil || len(args) > 0 {
		return nil, none
	}
	images, err := c.ListImages(ctx)
	if err != nil {
		return nil, none
	}
	var names []string
	for _, i := range images {
		if i.Name != "" {
			names = append(names, i.Name)
		}
	}
	return names, none
}

// background is the command's context; cobra's completion may have none.
func background(cmd *cobra.Command) context.Context {
	if ctx := cmd.Context(); ctx != nil {
		return ctx
	}
	return context.Background()
}
