package vmcmd

import (
	"context"

	"banger/internal/api"
	"banger/internal/cli/sshexec"

	"github.com/spf13/cobra"
)

type accessor interface {
	AccessVM(ctx context.Context, r api.VMRequest) (api.Access, error)
}

type sshOptions struct {
	vm      string
	command []string
	agent   bool
}

func newSSH(e Env) *cobra.Command {
	o := &sshOptions{}
	cmd := &cobra.Command{
		Use:   "ssh [flags] VM [-- COMMAND...]",
		Short: "Log in to a VM with ssh(1)",
		Long: `Become an ssh(1) that knows the VM's address, key and host key. Without a
command it is a login shell. As with ssh everywhere, the words of a command are
joined with blanks and read by the shell in the VM; banger vm exec hands them
over as they are.`,
		Example: "  banger vm ssh web\n  banger vm ssh web -- 'uname -a; id'\n  banger vm ssh -A web -- git pull",
		Args:    vmAndCommand,
		RunE: func(cmd *cobra.Command, args []string) error {
			o.vm, o.command = args[0], args[1:]
			c, err := e.Connect(cmd.Context())
			if err != nil {
				return err
			}
			return runSSH(cmd.Context(), e, o, c)
		},
		ValidArgsFunction: e.vmNames(isLive),
	}
	cmd.Flags().BoolVarP(&o.agent, "forward-agent", "A", false, "let the VM use your ssh-agent while you are logged in: its root could, too")
	return cmd
}

func runSSH(ctx context.Context, e Env, o *sshOptions, c interface {
	accessor
	shower
	waiter
}) error {
	if err := e.awaitReady(ctx, c, o.vm); err != nil {
		return err
	}
	a, err := c.AccessVM(ctx, api.VMRequest{VM: o.vm})
	if err != nil {
		return err
	}
	return e.SSH(sshexec.Target{
		Name: a.VM.Name, ID: string(a.VM.ID),
		Host: a.Host, Port: a.Port, User: a.User,
		Identity: a.IdentityFile, PublicKey: a.HostPublicKey, Agent: o.agent,
	}, o.command)
}
