package vmcmd

import (
	"context"
	"io"

	"banger/internal/api"

	"github.com/spf13/cobra"
)

type sshConfigurer interface {
	SSHConfig(ctx context.Context, r api.SSHConfigRequest) (api.SSHConfigInfo, error)
}

func newSSHConfig(e Env) *cobra.Command {
	return &cobra.Command{
		Use:   "ssh-config VM",
		Short: "Print what ssh(1) must know of a VM",
		Long: `Print a Host block for ~/.ssh/config, or for a file that ssh, scp, sftp or rsync
is given with -F: they then reach the VM as NAME.vm, know its key, and prove its
host key. The block stays right when the VM is stopped and started; banger
ssh-config install keeps one for every VM.`,
		Example: "  banger vm ssh-config web\n  banger vm ssh-config web >web.conf; scp -F web.conf notes.txt web.vm:",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := e.Connect(cmd.Context())
			if err != nil {
				return err
			}
			return runSSHConfig(cmd.Context(), e, args[0], c)
		},
		ValidArgsFunction: e.vmNames(isAny),
	}
}

func runSSHConfig(ctx context.Context, e Env, vm string, c sshConfigurer) error {
	info, err := c.SSHConfig(ctx, api.SSHConfigRequest{VM: vm})
	if err != nil {
		return err
	}
	_, err = io.WriteString(e.IO.Out, info.Config)
	return err
}
