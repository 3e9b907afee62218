package vmcmd

import (
	"context"
	"time"

	"banger"
	"banger/internal/api"
	"banger/internal/api/client"

	"github.com/spf13/cobra"
)

type waiter interface {
	WaitVM(ctx context.Context, r api.WaitRequest) (*client.Op[banger.VM], error)
}

// What can be waited for.
const (
	forReady   = "ready"
	forBooted  = "booted"
	forStopped = "stopped"
)

type waitOptions struct {
	vm      string
	what    string
	timeout time.Duration // 0: as long as it takes
}

func newWait(e Env) *cobra.Command {
	o := &waitOptions{}
	states := []string{forReady, forBooted, forStopped}
	what := word{kind: "STATE", of: states, Optional: api.Some(forReady)}
	cmd := &cobra.Command{
		Use:   "wait VM",
		Short: "Wait until a VM is ready, booted or stopped",
		Long: `Wait until a VM is
  ready    commands can be run in it
  booted   its init says that all services are up (or have failed)
  stopped  it does not run
A guest that is on its way down, as after reboot or poweroff was typed in it, is
neither ready nor booted: what it says after that reboot counts. Only systemd tells
that it is on its way down; with another init, end the VM from outside, by
banger vm restart or stop.`,
		Example: "  banger vm wait web --for booted --timeout 2m",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.vm, o.what = args[0], what.Value
			if o.timeout < 0 || o.timeout == 0 && cmd.Flags().Changed("timeout") {
				return banger.Errorf(banger.Invalid, "--timeout must be more than nothing").
					WithRemedy("leave it out to wait as long as it takes")
			}
			c, err := e.Connect(cmd.Context())
			if err != nil {
				return err
			}
			return runWait(cmd.Context(), e, o, c)
		},
		ValidArgsFunction: e.vmNames(isAny),
	}
	cmd.Flags().Var(&what, "for", "ready, booted or stopped")
	cmd.Flags().DurationVar(&o.timeout, "timeout", 0, "how long to wait; without it as long as it takes")
	complete(cmd, "for", states)
	return cmd
}

func runWait(ctx context.Context, e Env, o *waitOptions, c interface {
	waiter
}) error {
	r := api.WaitRequest{VM: o.vm, For: o.what}
	if o.timeout > 0 {
		r.Timeout = api.Some(o.timeout.Seconds())
	}
	_, err := e.follow(ctx, cease, func(ctx context.Context) (*client.Op[banger.VM], error) { return c.WaitVM(ctx, r) })
	return err
}
