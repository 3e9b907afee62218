package systemcmd

import (
	"github.com/spf13/cobra"
)

func newInstall(e Env) *cobra.Command {
	return &cobra.Command{
		Use:   "install",
		Short: "Make the daemon a systemd unit that starts by itself",
		Long: `Make the daemon a systemd unit: of your user manager, which starts when you log
in, or with the host once "loginctl enable-linger" was said; for root of the
system. VMs with --autostart come up with it. A daemon that runs is replaced, and
VMs go on, now and whenever the unit is stopped or started again. The path of the
unit file is printed.`,
		Example: "  banger daemon install",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			path, err := e.Daemon.Install(cmd.Context())
			if err != nil {
				return err
			}
			return e.IO.Println(path)
		},
	}
}

func newUninstall(e Env) *cobra.Command {
	return &cobra.Command{
		Use:     "uninstall",
		Short:   "Take back what install did; VMs go on",
		Long:    "Take back what install did: the unit ends and its file is removed. VMs go on, and the next command starts a daemon as before.",
		Example: "  banger daemon uninstall",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return e.Daemon.Uninstall(cmd.Context()) },
	}
}
