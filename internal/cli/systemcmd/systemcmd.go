// Package systemcmd is what concerns the installation and not a VM: banger
// daemon VERB, doctor, version.
package systemcmd

import (
	"context"

	"banger/internal/api"
	"banger/internal/cli/streams"

	"github.com/spf13/cobra"
)

// Env is what every verb is given.
type Env struct {
	IO     *streams.Streams
	Daemon Daemon
	Host   Host
	Log    func() (string, error) // path of the daemon's log
}

// A Daemon is the daemon of this installation, whether it runs or not.
type Daemon interface {
	// Connect finds it or starts it.
	Connect(context.Context) (Client, error)
	// Find returns it if it runs, else an error (launch.ErrNone).
	Find(context.Context) (Client, error)
	// Check says why one could not be started with this environment and its
	// configuration, whether one runs or not.
	Check() error
	// MayHaveRoot reports whether commands that create VMs try to start banger-root
	// without a question.
	MayHaveRoot() bool
	// Stop ends it and returns when it has ended; launch.ErrNone if there is none.
	Stop(context.Context) error
	// Install makes it a systemd unit, and returns that file's path.
	Install(context.Context) (string, error)
	// Uninstall takes the unit back.
	Uninstall(context.Context) error
}

// A Client is the daemon, as far as all verbs together need it.
type Client interface {
	statuser
	examiner
	vmStopper
	networker
	eventer
}

type statuser interface {
	DaemonStatus(ctx context.Context) (api.Status, error)
}

// New returns banger network, daemon, events, doctor, version and uninstall.
func New(e Env) []*cobra.Command {
	daemon := &cobra.Command{
		Use:     "daemon",
		Short:   "Look after bangerd, which runs the VMs",
		Example: "  banger daemon status\n  banger daemon logs -f",
		Long: `Look after bangerd, which runs the VMs. It starts by itself when a command needs
it; VMs go on when it ends, and the next one takes them over.`,
	}
	daemon.AddCommand(newStatus(e), newStart(e), newStop(e), newRestart(e), newLogs(e), newInstall(e), newUninstall(e))
	return []*cobra.Command{newNetwork(e), daemon, newEvents(e), newDoctor(e), newVersion(e), newUninstallAll(e)}
}

func addFormat(cmd *cobra.Command, f *streams.Format) {
	cmd.Flags().VarP(f, "output", "o", "table, json or yaml")
	// The only error is a flag that does not exist, which tests would find.
	_ = cmd.RegisterFlagCompletionFunc("output",
		cobra.FixedCompletions(streams.Formats(), cobra.ShellCompDirectiveNoFileComp))
}
