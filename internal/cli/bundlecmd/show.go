package bundlecmd

import (
	"context"
	"path/filepath"
	"time"

	"banger"
	"banger/internal/api"
	"banger/internal/api/client"
	"banger/internal/cli/streams"

	"github.com/spf13/cobra"
)

type showOptions struct {
	dir    string // "": the one that is found
	format streams.Format
}

func newShow(e Env) *cobra.Command {
	o := &showOptions{format: streams.Table}
	cmd := &cobra.Command{
		Use:   "show [DIR]",
		Short: "Show the runtime bundle that is used",
		Long: `Show the runtime bundle that is used, or the one in DIR. With -q only the
directory is printed.`,
		Example: "  banger bundle show\n  banger bundle show -q\n  banger bundle show -o json",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			dir, err := dirArg(e, args)
			if err != nil {
				return err
			}
			o.dir = dir
			c, err := e.Connect(cmd.Context())
			if err != nil {
				return err
			}
			return runShow(cmd.Context(), e, o, c)
		},
	}
	cmd.Flags().VarP(&o.format, "output", "o", "table, json or yaml")
	// The only error is a flag that does not exist, which tests would find.
	_ = cmd.RegisterFlagCompletionFunc("output",
		cobra.FixedCompletions(streams.Formats(), cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

func runShow(ctx context.Context, e Env, o *showOptions, c shower) error {
	info, err := c.ShowBundle(ctx, api.BundleRequest{Dir: o.dir})
	if err != nil {
		return err
	}
	if e.IO.Quiet {
		return e.IO.Println(info.Dir)
	}
	b, err := manifestOf(info)
	if err != nil {
		return err
	}
	if o.format == streams.Table {
		if err := e.IO.Print(o.format, nil, func(r *streams.Rows) { head(r, b) }); err != nil {
			return err
		}
		if err := e.IO.Println(""); err != nil {
			return err
		}
	}
	return e.IO.Print(o.format, info, func(r *streams.Rows) { artifacts(r, b) })
}

func head(r *streams.Rows, b banger.Bundle) {
	r.Add("Directory", b.Dir)
	r.Add("Built", b.CreatedAt.Local().Format(time.DateTime)+", by banger "+b.Builder)
}

func artifacts(r *streams.Rows, b banger.Bundle) {
	r.Add("KIND", "NAME", "FILE", "SIZE", "RELEASE", "OS", "DEFAULT")
	for _, a := range b.Artifacts {
		def := ""
		if a.Default {
			def = "yes"
		}
		r.Add(string(a.Kind), a.Name, a.File, banger.FormatSize(a.Size), a.Release, a.OS, def)
	}
}

// dirArg is the bundle that is meant: the argument, else the environment's,
// else "", which leaves the search to the daemon.
func dirArg(e Env, args []string) (string, error) {
	if len(args) == 0 {
		return client.NamedBundle(e.IO.Getenv)
	}
	abs, err := filepath.Abs(args[0])
	if err != nil {
		return "", banger.Errorf(banger.Invalid, "find %s: %w", args[0], err)
	}
	return abs, nil
}
