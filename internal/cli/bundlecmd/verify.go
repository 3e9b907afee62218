package bundlecmd

import (
	"context"

	"banger/internal/api"
	"banger/internal/api/client"

	"github.com/spf13/cobra"
)

type verifyOptions struct {
	dir string // "": the one that is found
}

func newVerify(e Env) *cobra.Command {
	o := &verifyOptions{}
	return &cobra.Command{
		Use:     "verify [DIR]",
		Short:   "Compare every file of a runtime bundle with its SHA-256",
		Example: "  banger bundle verify\n  banger bundle verify ./runtime",
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
			return runVerify(cmd.Context(), e, o, c)
		},
	}
}

func runVerify(ctx context.Context, e Env, o *verifyOptions, c verifier) error {
	info, err := e.follow(ctx, func(ctx context.Context) (*client.Op[api.BundleInfo], error) {
		return c.VerifyBundle(ctx, api.BundleRequest{Dir: o.dir})
	})
	if err != nil {
		return err
	}
	return e.IO.Println(info.Dir)
}
