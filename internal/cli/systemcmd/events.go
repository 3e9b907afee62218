package systemcmd

import (
	"context"
	"encoding/json"
	"errors"
	"io"

	"banger"
	"banger/internal/api/client"
	"banger/internal/cli/streams"

	"github.com/spf13/cobra"
)

type eventer interface {
	// Events gives events to on, from a number on; with follow until ctx ends
	// or the connection breaks (banger.Lost).
	Events(ctx context.Context, from int64, follow bool, on func(banger.VMEvent) error) error
}

type eventsOptions struct {
	follow bool
	from   int64
}

func newEvents(e Env) *cobra.Command {
	o := &eventsOptions{}
	cmd := &cobra.Command{
		Use:   "events",
		Short: "Print what happens to VMs, a JSON object a line",
		Long: `Print what happened to VMs, as far as the daemon remembers it: a JSON object a
line, numbered. With --follow it goes on, also under the next daemon, until
Ctrl-C; where events may have been missed, an object of type lost says so.`,
		Example: "  banger events\n  banger events -f\n  banger events -f --from 1769000000000123",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if o.from < 0 {
				return banger.Errorf(banger.Invalid, "--from %d is not a number of an event", o.from)
			}
			c, err := e.Daemon.Connect(cmd.Context())
			if err != nil {
				return err
			}
			return runEvents(cmd.Context(), e, o, c)
		},
	}
	f := cmd.Flags()
	f.BoolVarP(&o.follow, "follow", "f", false, "go on with what happens, until Ctrl-C")
	f.Int64Var(&o.from, "from", 0, "begin with the event of number `N`; without it with the oldest")
	return cmd
}

func runEvents(ctx context.Context, e Env, o *eventsOptions, c eventer) error {
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
	from := o.from
	print := printEvent(out, &from)
	for {
		err := c.Events(ctx, from, o.follow, print)
		switch {
		case o.follow && ctx.Err() != nil:
			return nil // Ctrl-C is how following ends
		case o.follow && banger.CodeOf(err) == banger.Lost:
			e.IO.Note("bangerd has ended; waiting for the next one")
		case o.follow && errors.Is(err, client.ErrNoDaemon): // that one has ended, too
		default:
			return err
		}
		if c, err = client.Next(ctx, e.Daemon.Find); err != nil {
			return nil // Ctrl-C, too
		}
	}
}

// printEvent writes events a line each and counts next up.
func printEvent(out io.Writer, next *int64) func(banger.VMEvent) error {
	return func(ev banger.VMEvent) error {
		b, err := json.Marshal(ev)
		if err != nil {
			return err
		}
		*next = ev.N + 1
		_, err = out.Write(append(b, '\n'))
		return err
	}
}
