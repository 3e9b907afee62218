package sshconfigcmd

import (
	"context"

	"banger/internal/api"
	"banger/internal/sshconfig"

	"github.com/spf13/cobra"
)

func newInstall(e Env) *cobra.Command {
	t := &target{}
	cmd := &cobra.Command{
		Use:   "install",
		Short: "Include the VMs in ~/.ssh/config",
		Long: `Put one line at the top of ~/.ssh/config that includes the configuration of all
VMs, those to come as well. Where it is already, nothing changes.`,
		Example: "  banger ssh-config install\n  ssh web.vm",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			file, err := t.path(e)
			if err != nil {
				return err
			}
			c, err := e.Connect(cmd.Context())
			if err != nil {
				return err
			}
			return runInstall(cmd.Context(), e, file, c)
		},
	}
	t.add(cmd)
	return cmd
}

func runInstall(ctx context.Context, e Env, file string, c Client) error {
	info, err := c.SSHConfig(ctx, api.SSHConfigRequest{})
	if err != nil {
		return err
	}
	_, note, err := e.Files()
	if err != nil {
		return err
	}
	changed, err := sshconfig.Install(file, info.File, note)
	if err != nil {
		return err
	}
	if !changed {
		e.IO.Note("%s includes the VMs already", file)
		return nil
	}
	e.IO.Note("%s includes the VMs now: ssh NAME.vm", file)
	return nil
}
