package systemcmd

import (
	"cmp"
	"context"
	"strconv"
	"strings"
	"time"

	"banger/internal/api"
	"banger/internal/cli/streams"

	"github.com/spf13/cobra"
)

type statusOptions struct {
	format streams.Format
}

func newStatus(e Env) *cobra.Command {
	o := &statusOptions{format: streams.Table}
	cmd := &cobra.Command{
		Use:     "status",
		Short:   "Show the daemon that runs",
		Long:    "Show the daemon that runs. None is started; that none runs is exit code 5.",
		Example: "  banger daemon status\n  banger daemon status -o json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := e.Daemon.Find(cmd.Context())
			if err != nil {
				return err
			}
			return runStatus(cmd.Context(), e, o, c)
		},
	}
	addFormat(cmd, &o.format)
	return cmd
}

func runStatus(ctx context.Context, e Env, o *statusOptions, c statuser) error {
	s, err := c.DaemonStatus(ctx)
	if err != nil {
		return err
	}
	if e.IO.Quiet {
		return e.IO.Println(strconv.Itoa(s.PID))
	}
	return e.IO.Print(o.format, s, func(r *streams.Rows) { describe(r, s) })
}

func describe(r *streams.Rows, s api.Status) {
	r.Add("PID", strconv.Itoa(s.PID))
	r.Add("Build", s.Build)
	r.Add("API", strconv.Itoa(s.API))
	r.Add("Started", local(s.StartedAt))
	r.Add("VMs", strconv.Itoa(s.VMs))
	r.Add("Running", strconv.Itoa(s.Running))
	r.Add("Operations", strconv.Itoa(s.Ops))
	r.Add("Streams", strconv.Itoa(s.Streams))
	if len(s.UnderWay) > 0 {
		r.Add("Under way", strings.Join(s.UnderWay, ", "))
	}
	if len(s.Pending) > 0 {
		r.Add("Pending", strings.Join(s.Pending, ", ")+" (removed once banger-root runs)")
	}
	r.Add("Subnet", s.Subnet)
	r.Add("Tag", s.Tag)
	if s.DNS != nil {
		r.Add("Names", names(*s.DNS))
		r.Add("Guests' names", cmp.Or(s.DNS.Guests, "none"))
	}
	r.Add("Socket", s.Socket)
	r.Add("State", s.StateDir)
	r.Add("Run", s.RunDir)
	r.Add("Log", s.Log)
}

// names says where the daemon answers for the VMs' names.
func names(i api.DNSInfo) string {
	switch {
	case i.Wanted == "":
		return "off"
	case i.Listen == "":
		return "none: " + i.Problem
	case i.Problem != "":
		return i.Listen + " (" + i.Problem + ")"
	}
	return i.Listen
}

// local is a time as the other tables have it.
func local(rfc3339 string) string {
	t, err := time.Parse(time.RFC3339, rfc3339)
	if err != nil {
		return rfc3339
	}
	return t.Local().Format(time.DateTime)
}
