package imagecmd

import (
	"context"
	"time"

	"banger"
	"banger/internal/cli/streams"

	"github.com/spf13/cobra"
)

type listOptions struct {
	format streams.Format
}

func newList(e Env) *cobra.Command {
	o := &listOptions{format: streams.Table}
	cmd := &cobra.Command{
		Use:     "list",
		Aliases: []string{"ls"},
		Short:   "List the images",
		Example: "  banger image list\n  banger image list -o json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := e.Connect(cmd.Context())
			if err != nil {
				return err
			}
			return runList(cmd.Context(), e, o, c)
		},
	}
	addFormat(cmd, &o.format)
	return cmd
}

func runList(ctx context.Context, e Env, o *listOptions, c lister) error {
	images, err := c.ListImages(ctx)
	if err != nil {
		return err
	}
	if e.IO.Quiet {
		for _, i := range images {
			if err := e.IO.Println(nameOf(i)); err != nil {
				return err
			}
		}
		return nil
	}
	if images == nil {
		images = []banger.Image{} // an empty list, not null
	}
	return e.IO.Print(o.format, images, func(r *streams.Rows) {
		r.Add("NAME", "ID", "OS", "KERNEL", "SIZE", "CREATED", "DEFAULT")
		for _, i := range images {
			r.Add(i.Name, i.ID, i.OS, i.Release, banger.FormatSize(i.Rootfs.Size), created(i), yes(i.Default))
		}
	})
}

func created(i banger.Image) string { return i.CreatedAt.Local().Format(time.DateTime) }

func yes(b bool) string {
	if b {
		return "yes"
	}
	return ""
}
