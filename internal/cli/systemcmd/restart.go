package systemcmd

import (
	"context"
	"errors"
	"strings"

	"banger/internal/cli/launch"

	"github.com/spf13/cobra"
)

func newRestart(e Env) *cobra.Command {
	return &cobra.Command{
		Use:   "restart",
		Short: "End the daemon and start it again; VMs go on",
		Long: `End the daemon and start it again, with the environment of this command and the
configuration as it is now. VMs go on. Operations under way are waited for, 30 s
at most; commands (exec, the shell of run), copies and followed logs end.`,
		Example: "  banger daemon restart",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return runRestart(cmd.Context(), e) },
	}
}

func runRestart(ctx context.Context, e Env) error {
	if err := e.Daemon.Check(); err != nil { // the one that runs is not ended for nothing
		return err
	}
	if err := e.end(ctx); err != nil && !errors.Is(err, launch.ErrNone) {
		return err
	}
	return runStart(ctx, e)
}

// end ends the daemon that runs, and says what it will wait for and what will
// end with it.
func (e Env) end(ctx context.Context) error {
	if c, err := e.Daemon.Find(ctx); err == nil {
		// One that cannot be asked, as of an older build, is ended all the same.
		if s, err := c.DaemonStatus(ctx); err == nil && len(s.UnderWay) > 0 {
			e.IO.Note("under way: %s", strings.Join(s.UnderWay, ", "))
			if s.Ops > 0 {
				e.IO.Note("bangerd waits up to 30s for the operations, then takes back what was begun")
			}
			if s.Streams > 0 {
				e.IO.Note("commands, copies and followed logs end with bangerd; VMs go on")
			}
		}
	}
	return e.Daemon.Stop(ctx)
}
