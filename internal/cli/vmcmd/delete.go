package vmcmd

import (
	"context"

	"banger"
	"banger/internal/api"
	"banger/internal/api/client"

	"github.com/spf13/cobra"
)

type deleter interface {
	DeleteVM(ctx context.Context, r api.DeleteRequest) (*client.Op[banger.VM], error)
}

type deleteOptions struct {
	vms   []string
	all   bool
	force bool
}

func newDelete(e Env) *cobra.Command {
	o := &deleteOptions{}
	cmd := &cobra.Command{
		Use:     "delete VM...",
		Aliases: []string{"rm"},
		Short:   "Delete VMs with their disks",
		Long:    "Delete VMs with their disks. What a VM had is lost; one that runs is deleted with --force only.",
		Example: "  banger vm delete web\n  banger vm delete --force --all",
		RunE: func(cmd *cobra.Command, args []string) error {
			o.vms = args
			if err := checkTargets(o.vms, o.all); err != nil {
				return err
			}
			c, err := e.Connect(cmd.Context())
			if err != nil {
				return err
			}
			return runDelete(cmd.Context(), e, o, c)
		},
		ValidArgsFunction: e.vmNames(isAny),
	}
	cmd.Flags().BoolVar(&o.all, "all", false, "every VM")
	cmd.Flags().BoolVarP(&o.force, "force", "f", false, "also those that run")
	return cmd
}

func runDelete(ctx context.Context, e Env, o *deleteOptions, c interface {
	lister
	deleter
}) error {
	vms, err := targets(ctx, c, o.vms, o.all, isAny)
	if err != nil {
		return err
	}
	return e.each(ctx, vms, leave, func(ctx context.Context, vm string) (*client.Op[banger.VM], error) {
		return c.DeleteVM(ctx, api.DeleteRequest{VM: vm, Force: o.force})
	})
}
