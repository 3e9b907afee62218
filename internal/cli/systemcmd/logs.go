package systemcmd

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"time"

	"banger"
	"banger/internal/cli/streams"

	"github.com/spf13/cobra"
)

// refresh is how often a log that is followed is looked at.
const refresh = 200 * time.Millisecond

type logsOptions struct {
	follow bool
}

func newLogs(e Env) *cobra.Command {
	o := &logsOptions{}
	cmd := &cobra.Command{
		Use:     "logs",
		Short:   "Print the daemon's log",
		Long:    "Print the daemon's log: a JSON object a line. It is read from its file, so the daemon need not run.",
		Example: "  banger daemon logs\n  banger daemon logs -f",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return runLogs(cmd.Context(), e, o) },
	}
	cmd.Flags().BoolVarP(&o.follow, "follow", "f", false, "go on with what is added, until Ctrl-C")
	return cmd
}

func runLogs(ctx context.Context, e Env, o *logsOptions) error {
	path, err := e.Log()
	if err != nil {
		return err
	}
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return banger.Errorf(banger.NotFound, "there is no log yet: %s", path).WithRemedy("banger daemon start")
	}
	if err != nil {
		return banger.Errorf(banger.HostUnready, "read the daemon's log: %w", err)
	}
	defer f.Close()
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
	for {
		if _, err := io.Copy(out, f); err != nil || !o.follow {
			return err
		}
		select {
		case <-ctx.Done():
			return nil // Ctrl-C is how following ends
		case <-time.After(refresh):
		}
		if err := rewound(f); err != nil {
			return err
		}
	}
}

// rewound goes back to the beginning of a log that was cut.
func rewound(f *os.File) error {
	fi, err := f.Stat()
	if err != nil {
		return err
	}
	at, err := f.Seek(0, io.SeekCurrent)
	if err != nil || at <= fi.Size() {
		return err
	}
	_, err = f.Seek(0, io.SeekStart)
	return err
}
