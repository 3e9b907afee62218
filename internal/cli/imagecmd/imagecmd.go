// Package imagecmd is banger image VERB: what VMs can be made from.
package imagecmd

import (
	"context"

	"banger"
	"banger/internal/api"
	"banger/internal/cli/streams"

	"github.com/spf13/cobra"
)

// Env is what every verb is given.
type Env struct {
	IO      *streams.Streams
	Connect func(context.Context) (Client, error) // finds the daemon or starts it
	Find    func(context.Context) (Client, error) // finds a daemon that runs
}

// A Client is the daemon, as far as all verbs together need it.
type Client interface {
	lister
	shower
	deleter
}

type lister interface {
	ListImages(ctx context.Context) ([]banger.Image, error)
}

type shower interface {
	ShowImage(ctx context.Context, r api.ImageRequest) (banger.Image, error)
}

type deleter interface {
	DeleteImage(ctx context.Context, r api.ImageRequest) (banger.Image, error)
}

// New returns banger image.
func New(e Env) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "image",
		Short:   "List and delete the images that VMs are made from",
		Example: "  banger image list",
		Long: `List and delete the images that VMs are made from. An image is registered from
the runtime bundle when a VM is made from it; it is named by its name, or by the
beginning of its ID.`,
	}
	cmd.AddCommand(newList(e), newShow(e), newDelete(e))
	return cmd
}

func addFormat(cmd *cobra.Command, f *streams.Format) {
	cmd.Flags().VarP(f, "output", "o", "table, json or yaml")
	// The only error is a flag that does not exist, which tests would find.
	_ = cmd.RegisterFlagCompletionFunc("output",
		cobra.FixedCompletions(streams.Formats(), cobra.ShellCompDirectiveNoFileComp))
}

// names lets the shell complete arguments; it starts no daemon.
func (e Env) names(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
	const none = cobra.ShellCompDirectiveNoFileComp
	ctx := cmd.Context()
	c, err := e.Find(ctx)
	if err != nil {
		return nil, none
	}
	images, err := c.ListImages(ctx)
	if err != nil {
		return nil, none
	}
	var names []string
	for _, i := range images {
		names = append(names, nameOf(i))
	}
	return names, none
}

// nameOf is what an image can be named by: its ID once another has its name.
func nameOf(i banger.Image) string {
	if i.Name != "" {
		return i.Name
	}
	return i.ID
}
