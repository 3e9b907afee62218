package sshconfigcmd

import (
	"banger/internal/sshconfig"

	"github.com/spf13/cobra"
)

func newUninstall(e Env) *cobra.Command {
	t := &target{}
	cmd := &cobra.Command{
		Use:     "uninstall",
		Short:   "Take the VMs out of ~/.ssh/config again",
		Long:    "Take the line of install out of ~/.ssh/config; what else is in it stays as it is.",
		Example: "  banger ssh-config uninstall",
		Args:    cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			file, err := t.path(e)
			if err != nil {
				return err
			}
			return runUninstall(e, file)
		},
	}
	t.add(cmd)
	return cmd
}

func runUninstall(e Env, file string) error {
	config, note, err := e.Files()
	if err != nil {
		return err
	}
	changed, err := sshconfig.Uninstall(file, config, note)
	if err != nil {
		return err
	}
	if !changed {
		e.IO.Note("%s does not include the VMs", file)
		return nil
	}
	e.IO.Note("%s does not include the VMs any more", file)
	return nil
}
