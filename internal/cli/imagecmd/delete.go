package imagecmd

import (
	"context"
	"errors"

	"banger/internal/api"

	"github.com/spf13/cobra"
)

type deleteOptions struct {
	images []string
}

func newDelete(e Env) *cobra.Command {
	o := &deleteOptions{}
	return &cobra.Command{
		Use:     "delete IMAGE...",
		Aliases: []string{"rm"},
		Short:   "Delete images that no VM uses",
		Example: "  banger image delete 3f2a",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.images = args
			c, err := e.Connect(cmd.Context())
			if err != nil {
				return err
			}
			return runDelete(cmd.Context(), e, o, c)
		},
		ValidArgsFunction: e.names,
	}
}

func runDelete(ctx context.Context, e Env, o *deleteOptions, c deleter) error {
	var errs []error
	for _, name := range o.images {
		i, err := c.DeleteImage(ctx, api.ImageRequest{Image: name})
		if err == nil {
			err = e.IO.Println(nameOf(i))
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}
