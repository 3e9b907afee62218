package systemcmd

import (
	"context"
	"net/netip"
	"strings"

	"banger"
	"banger/internal/api"
	"banger/internal/cli/streams"

	"github.com/spf13/cobra"
)

type networker interface {
	ShowNetwork(ctx context.Context) (api.NetworkInfo, error)
	MoveNetwork(ctx context.Context, r api.NetworkMoveRequest) (api.NetworkInfo, error)
}

type networkOptions struct {
	format streams.Format
	subnet string // of move
}

func newNetwork(e Env) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "network",
		Short: "Show or move the subnet that VMs have addresses of",
		Long: `Show or move the subnet that VMs have addresses of. It was chosen at the
daemon's first start, free of the host's routes, and is kept until it is moved.`,
		Example: "  banger network show\n  banger network move 10.77.0.0/20",
	}
	cmd.AddCommand(newNetworkShow(e), newNetworkMove(e))
	return cmd
}

func newNetworkShow(e Env) *cobra.Command {
	o := &networkOptions{format: streams.Table}
	cmd := &cobra.Command{
		Use:     "show",
		Short:   "Show the subnet, and what is wrong with it",
		Long:    "Show the subnet, and which of the host's routes overlap it, as those of a VPN may.",
		Example: "  banger network show\n  banger network show -o json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := e.Daemon.Connect(cmd.Context())
			if err != nil {
				return err
			}
			info, err := c.ShowNetwork(cmd.Context())
			if err != nil {
				return err
			}
			return e.printNetwork(o.format, info)
		},
	}
	addFormat(cmd, &o.format)
	return cmd
}

func newNetworkMove(e Env) *cobra.Command {
	o := &networkOptions{format: streams.Table}
	cmd := &cobra.Command{
		Use:   "move SUBNET",
		Short: "Move all VMs to another subnet",
		Long: `Move all VMs to another subnet: a private one of /20 to /28 that overlaps none
of the host's routes. No VM may run; each keeps its place in the subnet.`,
		Example: "  banger stop --all && banger network move 10.77.0.0/20",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.subnet = args[0]
			if _, err := netip.ParsePrefix(o.subnet); err != nil {
				return banger.Errorf(banger.Invalid, "%q is no subnet", o.subnet).WithRemedy("give its first address and its length, as 10.77.0.0/20")
			}
			c, err := e.Daemon.Connect(cmd.Context())
			if err != nil {
				return err
			}
			return runNetworkMove(cmd.Context(), e, o, c)
		},
	}
	addFormat(cmd, &o.format)
	return cmd
}

func runNetworkMove(ctx context.Context, e Env, o *networkOptions, c networker) error {
	info, err := c.MoveNetwork(ctx, api.NetworkMoveRequest{Subnet: o.subnet})
	if err != nil {
		return err
	}
	return e.printNetwork(o.format, info)
}

func (e Env) printNetwork(f streams.Format, n api.NetworkInfo) error {
	if e.IO.Quiet {
		return e.IO.Println(n.Subnet)
	}
	return e.IO.Print(f, n, func(r *streams.Rows) {
		r.Add("Subnet", n.Subnet)
		r.Add("Gateway", n.Gateway)
		r.Add("Resolver", n.Resolver)
		r.Add("Tag", n.Tag)
		r.Add("Overlaps", orNone(n.Overlaps))
		r.Add("Pending", orNone(n.Pending))
	})
}

func orNone(all []string) string {
	if len(all) == 0 {
		return "none"
	}
	return strings.Join(all, ", ")
}
