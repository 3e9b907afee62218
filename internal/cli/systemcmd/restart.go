package systemcmd

import (
	"context"
	"errors"

	"banger/internal/cli/launch"

	"github.com/spf13/cobra"
)

func newRestart(e Env) *cobra.Command {
	return &cobra.Command{
		Use:     "restart",
		Short:   "End the daemon and start it again; VMs go on",
		Example: "  banger daemon restart",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return runRestart(cmd.Context(), e) },
	}
}

func runRestart(ctx context.Context, e Env) error {
	if err := e.Daemon.Stop(ctx); err != nil && !errors.Is(err, launch.ErrNone) {
		return err
	}
	return runStart(ctx, e)
}
