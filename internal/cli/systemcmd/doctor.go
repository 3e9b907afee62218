package systemcmd

import (
	"context"

	"banger"
	"banger/internal/api"
	"banger/internal/cli/streams"

	"github.com/spf13/cobra"
)

type examiner interface {
	Doctor(ctx context.Context, r api.DoctorRequest) (api.DoctorReport, error)
}

// purposes are what doctor can be asked about.
var purposes = []string{"vm-start", "work-disk", "ssh", "bundle-build"}

type doctorOptions struct {
	purpose string // "": everything
	format  streams.Format
}

func newDoctor(e Env) *cobra.Command {
	o := &doctorOptions{format: streams.Table}
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Check whether this host can run VMs, and how well",
		Long: `Check whether this host can run VMs, and how well. A check that failed comes
with what to do about it; if there is one, the exit code is 5.`,
		Example: "  banger doctor\n  banger doctor --for vm-start\n  banger doctor -o json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := e.Daemon.Connect(cmd.Context())
			if err != nil {
				return err
			}
			return runDoctor(cmd.Context(), e, o, c)
		},
	}
	cmd.Flags().StringVar(&o.purpose, "for", "", "check only what is needed for `PURPOSE`: vm-start, work-disk, ssh, bundle-build")
	_ = cmd.RegisterFlagCompletionFunc("for", cobra.FixedCompletions(purposes, cobra.ShellCompDirectiveNoFileComp))
	addFormat(cmd, &o.format)
	return cmd
}

func runDoctor(ctx context.Context, e Env, o *doctorOptions, c examiner) error {
	// Checked by the command that connects; one that is not there is a finding.
	bundle := e.IO.Getenv("BANGER_RUNTIME_DIR")
	r := api.DoctorRequest{For: o.purpose, Bundle: bundle}
	if e.Daemon.MayHaveRoot() {
		r.Root = "offered"
	}
	report, err := c.Doctor(ctx, r)
	if err != nil {
		return err
	}
	failed := 0
	for _, check := range report.Checks {
		if check.Status == "failed" {
			failed++
		}
	}
	if !e.IO.Quiet {
		err := e.IO.Print(o.format, report, func(r *streams.Rows) { checks(r, report) })
		if err != nil {
			return err
		}
	}
	if !report.OK {
		return banger.Errorf(banger.HostUnready, "%d of %d checks failed", failed, len(report.Checks)).
			WithRemedy("see what each one says above")
	}
	return nil
}

func checks(r *streams.Rows, report api.DoctorReport) {
	r.Add("STATUS", "CHECK", "RESULT")
	for _, c := range report.Checks {
		r.Add(c.Status, c.Name, c.Message)
		if c.Remedy != "" {
			r.Add(" ", " ", "-> "+c.Remedy)
		}
	}
}
