// Package vmcmd is banger vm VERB and banger run: what is done with a VM, from
// the user's side of the socket. Each verb is Options, a cobra command and a
// run function that needs no cobra.
package vmcmd

import (
	"context"
	"strings"

	"banger"
	"banger/internal/cli/sshexec"
	"banger/internal/cli/streams"

	"github.com/spf13/cobra"
)

// Env is what every verb is given.
type Env struct {
	IO *streams.Streams

	// Connect finds the daemon or starts it.
	Connect func(context.Context) (Client, error)
	// Find finds a daemon that runs, for what is not worth starting one.
	Find func(context.Context) (Client, error)
	// StartRoot starts banger-root, which may ask for a password; why is what
	// it is needed for.
	StartRoot func(ctx context.Context, why string) error
	// MayHaveRoot reports whether TryRoot, which is StartRoot that asks nobody, is worth
	// a try.
	MayHaveRoot func() bool
	TryRoot     func(ctx context.Context, why string) error
	// Report shows an event of an operation.
	Report func(banger.Event)
	// SSH becomes ssh(1): it returns only when that fails.
	SSH func(sshexec.Target, []string) error
}

// A Client is the daemon, as far as all verbs together need it; each asks for
// its own part of it.
type Client interface {
	lister
	creator
	starter
	stopper
	restarter
	killer
	resetter
	deleter
	shower
	setter
	waiter
	execer
	copier
	accessor
	sshConfigurer
	consoler
	logger
	imager
}

// New returns banger vm.
func New(e Env) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "vm",
		Short:   "Create, run and delete VMs",
		Example: "  banger vm create --name web\n  banger vm list",
		Long:    "Create, run and delete VMs. A VM is named by its name, or by the beginning of its ID.",
	}
	cmd.AddCommand(
		newCreate(e), newStart(e), newStop(e), newRestart(e), newKill(e), newReset(e), newDelete(e),
		newList(e), newShow(e), newSet(e), newSSH(e), newSSHConfig(e), newSSHProxy(e), newExec(e), newCP(e), newConsole(e), newLogs(e), newWait(e), newPorts(e),
	)
	return cmd
}

// ShortCuts returns banger run and the verbs that are typed daily, as commands
// of the root.
func ShortCuts(e Env) []*cobra.Command {
	cmds := []*cobra.Command{newRun(e)}
	for _, s := range []struct {
		name string
		cmd  *cobra.Command
	}{
		{"ps", newList(e)}, {"ssh", newSSH(e)}, {"exec", newExec(e)}, {"stop", newStop(e)},
		{"start", newStart(e)}, {"rm", newDelete(e)}, {"logs", newLogs(e)},
	} {
		long := "vm " + s.cmd.Name()
		s.cmd.Use = strings.Replace(s.cmd.Use, s.cmd.Name(), s.name, 1)
		s.cmd.Example = strings.ReplaceAll(s.cmd.Example, "banger "+long, "banger "+s.name)
		s.cmd.Short += " (short for " + long + ")"
		s.cmd.Aliases = nil
		cmds = append(cmds, s.cmd)
	}
	return cmds
}
