// Package sshconfigcmd is banger ssh-config VERB: it makes ssh(1), and all that
// starts it, know the VMs by name, and undoes that.
package sshconfigcmd

import (
	"context"
	"os"
	"os/user"
	"path/filepath"
	"strconv"

	"banger"
	"banger/internal/api"
	"banger/internal/cli/streams"

	"github.com/spf13/cobra"
)

// Env is what every verb is given.
type Env struct {
	IO *streams.Streams
	// Connect finds the daemon or starts it.
	Connect func(context.Context) (Client, error)
	// Files says where the daemon keeps the configuration of all VMs, and
	// where install remembers what it made. It asks no daemon.
	Files func() (config, note string, err error)
}

// A Client is the daemon, as far as it is needed.
type Client interface {
	SSHConfig(ctx context.Context, r api.SSHConfigRequest) (api.SSHConfigInfo, error)
}

// New returns banger ssh-config.
func New(e Env) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "ssh-config",
		Short: "Let ssh, scp, rsync, sftp and editors know VMs by name",
		Long: `Let ssh(1), and so scp, rsync, sftp and editors' remote modes, know every VM as
NAME.vm. bangerd keeps a configuration and a file of host keys that follow the
VMs; install puts one Include line at the top of ~/.ssh/config, and uninstall
leaves that file byte for byte as it was.`,
		Example: "  banger ssh-config install\n  scp notes.txt web.vm:/srv",
	}
	cmd.AddCommand(newInstall(e), newUninstall(e))
	return cmd
}

// A target is the file of the user's that is changed.
type target struct{ file string }

func (t *target) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&t.file, "file", "", "the configuration to change, a `FILE`; without it ~/.ssh/config")
}

// path is where the user's configuration lies.
func (t *target) path(e Env) (string, error) {
	if t.file != "" {
		return filepath.Abs(t.file)
	}
	home := e.IO.Getenv("HOME")
	if !filepath.IsAbs(home) {
		return "", banger.Errorf(banger.Invalid, "HOME is not set").WithRemedy("set it, or say --file FILE")
	}
	// ssh(1) does not look at HOME.
	if u, err := user.LookupId(strconv.Itoa(os.Geteuid())); err == nil && filepath.Clean(u.HomeDir) != filepath.Clean(home) {
		e.IO.Note("ssh itself reads %s, since that is your home in the user database", filepath.Join(u.HomeDir, ".ssh", "config"))
	}
	return filepath.Join(home, ".ssh", "config"), nil
}
