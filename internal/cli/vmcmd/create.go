package vmcmd

import (
	"context"

	"banger"
	"banger/internal/api"
	"banger/internal/api/client"
	"banger/internal/cli/streams"

	"github.com/spf13/cobra"
)

type creator interface {
	CreateVM(ctx context.Context, r api.CreateRequest) (*client.Op[banger.VM], error)
}

type createOptions struct {
	spec
	noStart bool
	format  streams.Format
}

func newCreate(e Env) *cobra.Command {
	o := &createOptions{format: streams.Table}
	cmd := &cobra.Command{
		Use:   "create",
		Short: "Create a VM and start it",
		Long: `Create a VM, start it and wait until commands can be run in it. What is left
out gets the default. The VM's name is printed; with -o json or yaml, the VM.`,
		Example: `  banger vm create --name web
  banger vm create --name db --cpu 4 --memory 4GiB --disk 40GiB --work-disk 100GiB --no-start
  banger vm create --name site --publish 8080:80`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := e.Connect(cmd.Context())
			if err != nil {
				return err
			}
			return runCreate(cmd.Context(), e, o, c)
		},
	}
	o.add(cmd)
	f := cmd.Flags()
	f.Var(&o.image, "image", "image to make it from")
	f.BoolVar(&o.noStart, "no-start", false, "leave it stopped")
	addFormat(cmd, &o.format)
	_ = cmd.RegisterFlagCompletionFunc("image", e.imageNames)
	return cmd
}

func runCreate(ctx context.Context, e Env, o *createOptions, c interface {
	creator
}) error {
	req, err := o.request(e)
	if err != nil {
		return err
	}
	req.NoStart = o.noStart
	vm, err := e.create(ctx, c, req)
	if err != nil {
		return err
	}
	return e.printCreated(o.format, vm)
}

// create creates a VM. Where a banger-root could be had without a question, it is had
// for one whose network and backend are left to the daemon, too.
func (e Env) create(ctx context.Context, c creator, req api.CreateRequest) (banger.VM, error) {
	start := func(ctx context.Context) (*client.Op[banger.VM], error) { return c.CreateVM(ctx, req) }
	if e.MayHaveRoot == nil || !e.MayHaveRoot() {
		return e.follow(ctx, undo, start)
	}
	req.Root = api.Some("offered")
	vm, err := e.once(ctx, undo, start)
	if banger.CodeOf(err) != banger.NeedsRoot {
		return vm, err
	}
	if e.TryRoot(ctx, err.Error()) != nil {
		req.Root = api.Some("refused")
	}
	return e.follow(ctx, undo, start)
}

func (e Env) printCreated(f streams.Format, vm banger.VM) error {
	if f == streams.Table {
		return e.IO.Println(vm.Name)
	}
	return e.IO.Print(f, vm, nil)
}
