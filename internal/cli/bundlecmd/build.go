package bundlecmd

import (
	"context"
	"path/filepath"

	"banger"
	"banger/internal/api"
	"banger/internal/api/client"

	"github.com/spf13/cobra"
)

type buildOptions struct {
	output string // "": see destination
}

func newBuild(e Env) *cobra.Command {
	o := &buildOptions{}
	cmd := &cobra.Command{
		Use:   "build",
		Short: "Build a runtime bundle from Debian's packages",
		Long: `Build a runtime bundle from Debian's own packages. No root is needed. The new
bundle takes the place of the old one once it is complete; VMs that were made
from the old one are not touched. It is written to runtime/ of the checkout that
this banger lies in, or else to $XDG_DATA_HOME/banger/runtime.`,
		Example: "  banger bundle build\n  banger bundle build --output /srv/banger/runtime",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := e.Connect(cmd.Context())
			if err != nil {
				return err
			}
			return runBuild(cmd.Context(), e, o, c)
		},
	}
	cmd.Flags().StringVar(&o.output, "output", "", "`DIR` to write it to")
	_ = cmd.MarkFlagDirname("output") // the only error is a flag that does not exist
	return cmd
}

func runBuild(ctx context.Context, e Env, o *buildOptions, c builder) error {
	dir, err := o.destination(e)
	if err != nil {
		return err
	}
	info, err := e.follow(ctx, func(ctx context.Context) (*client.Op[api.BundleInfo], error) {
		return c.BuildBundle(ctx, api.BundleBuildRequest{Dir: dir})
	})
	if err != nil {
		return err
	}
	return e.IO.Println(info.Dir)
}

func (o *buildOptions) destination(e Env) (string, error) {
	if o.output != "" {
		dir, err := filepath.Abs(o.output)
		if err != nil {
			return "", banger.Errorf(banger.Invalid, "find %s: %w", o.output, err)
		}
		return dir, nil
	}
	return e.Default()
}
