package vmcmd

import (
	"context"
	"io"

	"banger"
	"banger/internal/api"
	"banger/internal/cli/streams"

	"github.com/spf13/cobra"
)

type logger interface {
	// LogsVM writes a VM's log to w, with Follow until ctx ends.
	LogsVM(ctx context.Context, r api.LogsRequest, w io.Writer) error
}

// Which log of a VM.
const (
	serialLog = "serial"
	vmmLog    = "vmm"
)

type logsOptions struct {
	vm     string
	which  string
	follow bool
}

func newLogs(e Env) *cobra.Command {
	o := &logsOptions{}
	var serial, vmm bool
	cmd := &cobra.Command{
		Use:   "logs VM",
		Short: "Print what a VM said on its serial console",
		Long: `Print what a VM said on its serial console, or what its VMM said. On a terminal
control characters are escaped, since the guest can write what it likes;
elsewhere the bytes come as they are.`,
		Example: "  banger vm logs web\n  banger vm logs web -f\n  banger vm logs web --vmm",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.vm, o.which = args[0], serialLog
			if serial && vmm {
				return banger.Errorf(banger.Invalid, "--serial and --vmm exclude each other")
			}
			if vmm {
				o.which = vmmLog
			}
			c, err := e.Connect(cmd.Context())
			if err != nil {
				return err
			}
			return runLogs(cmd.Context(), e, o, c)
		},
		ValidArgsFunction: e.vmNames(isAny),
	}
	f := cmd.Flags()
	f.BoolVarP(&o.follow, "follow", "f", false, "go on with what is added, until Ctrl-C")
	f.BoolVar(&serial, "serial", false, "the serial console (the default)")
	f.BoolVar(&vmm, "vmm", false, "the VMM's own log")
	return cmd
}

func runLogs(ctx context.Context, e Env, o *logsOptions, c logger) error {
	if o.follow {
		var stop context.CancelFunc
		ctx, stop = e.IO.WhileRead(ctx)
		defer stop()
	}
	out := e.IO.Out
	if e.IO.OutTerm {
		w := streams.EscapeWriter(out)
		defer w.Close()
		out = w
	}
	err := c.LogsVM(ctx, api.LogsRequest{VM: o.vm, Which: o.which, Follow: o.follow}, out)
	if o.follow && ctx.Err() != nil {
		return nil // Ctrl-C is how following ends
	}
	return err
}
