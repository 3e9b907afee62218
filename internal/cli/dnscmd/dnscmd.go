// Package dnscmd is banger dns VERB: where the daemon answers for the names of
// VMs, whether this host asks there, and what makes it do so.
package dnscmd

import (
	"context"
	"net/netip"

	"banger"
	"banger/internal/api"
	"banger/internal/cli/streams"
	"banger/internal/resolver"

	"github.com/spf13/cobra"
)

// Env is what every verb is given.
type Env struct {
	IO *streams.Streams
	// Connect finds the daemon or starts it; Find does not start it.
	Connect, Find func(context.Context) (Client, error)
	Host          Host
}

// A Client is the daemon, as far as it is needed.
type Client interface {
	DaemonStatus(ctx context.Context) (api.Status, error)
}

// A Host is the machine that this command runs on.
type Host struct {
	resolver.Host
	Root bool // this process may change it
	// Ask asks for a name's IPv4 addresses as any program of the host's would.
	Ask func(ctx context.Context, name string) ([]netip.Addr, error)
	// Run runs one of resolver.Reload's commands.
	Run func(ctx context.Context, argv []string) error
}

// New returns banger dns.
func New(e Env) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "dns",
		Short: "Have this host know VMs as NAME.vm",
		Long: `Have this host know VMs as NAME.vm. bangerd answers for these names on the
loopback, and the host's resolver has to be told that it does: install says how,
uninstall takes it back.`,
		Example: "  banger dns status\n  banger dns install",
	}
	cmd.AddCommand(newStatus(e), newInstall(e), newUninstall(e))
	return cmd
}

// served is where the daemon answers for names, and the installation's tag.
func served(ctx context.Context, c Client) (api.DNSInfo, string, error) {
	s, err := c.DaemonStatus(ctx)
	if err != nil {
		return api.DNSInfo{}, "", err
	}
	if s.DNS == nil {
		return api.DNSInfo{}, "", banger.Errorf(banger.WrongState, "the daemon that runs is of an older build (%s), which serves no names", s.Build).
			WithRemedy("banger daemon restart")
	}
	return *s.DNS, s.Tag, nil
}

func addFormat(cmd *cobra.Command, f *streams.Format) {
	cmd.Flags().VarP(f, "output", "o", "table, json or yaml")
	// The only error is a flag that does not exist, which tests would find.
	_ = cmd.RegisterFlagCompletionFunc("output",
		cobra.FixedCompletions(streams.Formats(), cobra.ShellCompDirectiveNoFileComp))
}
