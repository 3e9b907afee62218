package imagecmd

import (
	"context"
	"fmt"

	"banger"
	"banger/internal/api"
	"banger/internal/cli/streams"

	"github.com/spf13/cobra"
)

type showOptions struct {
	image  string
	format streams.Format
}

func newShow(e Env) *cobra.Command {
	o := &showOptions{format: streams.Table}
	cmd := &cobra.Command{
		Use:     "show IMAGE",
		Short:   "Show all that is known of an image",
		Example: "  banger image show debian-12\n  banger image show debian-12 -o json",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.image = args[0]
			c, err := e.Connect(cmd.Context())
			if err != nil {
				return err
			}
			return runShow(cmd.Context(), e, o, c)
		},
		ValidArgsFunction: e.names,
	}
	addFormat(cmd, &o.format)
	return cmd
}

func runShow(ctx context.Context, e Env, o *showOptions, c shower) error {
	i, err := c.ShowImage(ctx, api.ImageRequest{Image: o.image})
	if err != nil {
		return err
	}
	if e.IO.Quiet {
		return e.IO.Println(nameOf(i))
	}
	return e.IO.Print(o.format, i, func(r *streams.Rows) {
		r.Add("Name", i.Name)
		r.Add("ID", i.ID)
		r.Add("Default", yes(i.Default))
		r.Add("OS", i.OS)
		r.Add("Kernel release", i.Release)
		r.Add("Root file system", artifact(i.Rootfs))
		r.Add("Kernel", artifact(i.Kernel))
		if i.VMLinux != (banger.Artifact{}) {
			r.Add("Kernel as ELF", artifact(i.VMLinux))
		}
		r.Add("Initramfs", artifact(i.Initramfs))
		r.Add("Modules", artifact(i.Modules))
		r.Add("Created", created(i))
		r.Add("Source", i.Source)
	})
}

func artifact(a banger.Artifact) string {
	return fmt.Sprintf("%s (%s)", a.Digest, banger.FormatSize(a.Size))
}
