package cli

import (
	"context"

	"banger"
	"banger/internal/cli/bundlecmd"
	"banger/internal/cli/dnscmd"
	"banger/internal/cli/imagecmd"
	"banger/internal/cli/launch"
	"banger/internal/cli/sshconfigcmd"
	"banger/internal/cli/sshexec"
	"banger/internal/cli/streams"
	"banger/internal/cli/systemcmd"
	"banger/internal/cli/vmcmd"
	"banger/internal/version"

	"github.com/spf13/cobra"
)

const long = `banger runs development VMs: each a real machine with a kernel, a disk and an
address of its own.

A VM is named by its name, or by the beginning of its ID. Sizes have a unit:
512MiB, 2G. What a command is doing goes to stderr, its result to stdout.`

// Groups of commands, as help shows them.
const (
	daily  = "daily"
	nouns  = "nouns"
	others = "others"
)

// newRoot returns the whole tree of commands. installation is asked for by the
// first command that needs it, so that help and version work everywhere.
func newRoot(s *streams.Streams, installation func() (*launch.Launcher, error)) *cobra.Command {
	root := &cobra.Command{
		Use:           "banger",
		Short:         "Development VMs",
		Long:          long,
		Example:       "  banger run\n  banger run --rm -- uname -r\n  banger ps",
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.Version = version.Version().String()
	root.SetVersionTemplate("{{.Version}}\n") // as banger version says it
	root.SetIn(s.In)
	root.SetOut(s.Out)
	root.SetErr(s.Err)
	root.PersistentFlags().BoolVarP(&s.Quiet, "quiet", "q", false, "no progress; lists print names only")
	root.AddGroup(
		&cobra.Group{ID: daily, Title: "Daily commands:"},
		&cobra.Group{ID: nouns, Title: "All commands:"},
		&cobra.Group{ID: others, Title: "Others:"},
	)
	d := &installed{get: installation}
	report := reporter(s.Progress())
	vms := vmcmd.Env{
		IO: s, Report: report,
		Connect:   func(ctx context.Context) (vmcmd.Client, error) { return d.connect(ctx) },
		Find:      func(ctx context.Context) (vmcmd.Client, error) { return d.find(ctx) },
		StartRoot: d.startRoot, MayHaveRoot: d.mayHaveRoot, TryRoot: d.tryRoot,
		SSH: func(t sshexec.Target, command []string) error { return sshexec.Exec(s, t, command) },
	}
	sshConfig := sshconfigcmd.Env{
		IO: s, Files: d.sshFiles,
		Connect: func(ctx context.Context) (sshconfigcmd.Client, error) { return d.connect(ctx) },
	}
	images := imagecmd.Env{
		IO:      s,
		Connect: func(ctx context.Context) (imagecmd.Client, error) { return d.connect(ctx) },
		Find:    func(ctx context.Context) (imagecmd.Client, error) { return d.find(ctx) },
	}
	bundles := bundlecmd.Env{
		IO: s, Report: report,
		Connect: func(ctx context.Context) (bundlecmd.Client, error) { return d.connect(ctx) },
		Default: d.bundleDir,
	}
	dns := dnscmd.Env{
		IO: s, Host: dnscmd.ThisHost(),
		Connect: func(ctx context.Context) (dnscmd.Client, error) { return d.connect(ctx) },
		Find:    func(ctx context.Context) (dnscmd.Client, error) { return d.find(ctx) },
	}
	system := systemcmd.Env{
		IO: s, Daemon: daemon{d}, Log: d.daemonLog,
		Host: changed{installed: d, dns: dns.Host, home: s.Getenv("HOME")},
	}

	add(root, daily, vmcmd.ShortCuts(vms)...)
	add(root, nouns, vmcmd.New(vms), imagecmd.New(images), bundlecmd.New(bundles), sshconfigcmd.New(sshConfig), dnscmd.New(dns))
	add(root, nouns, systemcmd.New(system)...)
	root.SetHelpCommandGroupID(others)
	root.SetCompletionCommandGroupID(others)
	root.AddCommand(newMan(root))
	root.AddCommand(topics()...)
	root.InitDefaultVersionFlag() // now, for help to show it
	root.SetHelpCommand(newHelp(root))
	root.InitDefaultCompletionCmd() // now, so that it is treated as the others are
	strict(root)
	return root
}

func add(root *cobra.Command, group string, cmds ...*cobra.Command) {
	for _, c := range cmds {
		c.GroupID = group
		root.AddCommand(c)
	}
}

// reporter shows the events of operations.
func reporter(p *streams.Progress) func(banger.Event) {
	return func(e banger.Event) {
		switch e.Type {
		case banger.EventStep:
			p.Begin(e.Step)
		case banger.EventStepDone:
			p.End(e.Step, e.Elapsed)
		case banger.EventProgress:
			p.At(e.Step, e.Done, e.Total)
		case banger.EventMessage:
			p.Note("%s", e.Message)
		}
	}
}
