// Package cli is the banger command: it joins the commands of the packages
// below to one tree, knows the exit codes and prints the errors.
package cli

import (
	"context"
	"os"
	"os/signal"

	"banger/internal/cli/launch"
	"banger/internal/cli/streams"
	"banger/internal/layout"
)

// Main runs the command line args (without the program's name) on the streams
// of this process and returns its exit code.
func Main(args []string) int {
	s := streams.FromFiles(os.Stdin, os.Stdout, os.Stderr)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	// Ctrl-C is asked for once; the second one ends us on the spot.
	defer context.AfterFunc(ctx, stop)()
	return Run(ctx, s, args)
}

// Run is Main on other streams; the end of ctx is a Ctrl-C.
func Run(ctx context.Context, s *streams.Streams, args []string) int {
	root := newRoot(s, func() (*launch.Launcher, error) {
		l, err := layout.Resolve(s.Getenv, os.Geteuid())
		if err != nil {
			return nil, err
		}
		return launch.New(l, s)
	})
	root.SetArgs(args)
	return finish(s, root.ExecuteContext(ctx))
}
