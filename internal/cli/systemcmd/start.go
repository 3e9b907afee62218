package systemcmd

import (
	"context"

	"github.com/spf13/cobra"
)

func newStart(e Env) *cobra.Command {
	return &cobra.Command{
		Use:     "start",
		Short:   "Start the daemon, if it does not run",
		Example: "  banger daemon start",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return runStart(cmd.Context(), e) },
	}
}

func runStart(ctx context.Context, e Env) error {
	c, err := e.Daemon.Connect(ctx)
	if err != nil {
		return err
	}
	s, err := c.DaemonStatus(ctx)
	if err != nil {
		return err
	}
	e.IO.Note("bangerd runs (process %d)", s.PID)
	return nil
}
