package dnscmd

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"banger"
	"banger/internal/cli/streams"
	"banger/internal/resolver"

	"github.com/spf13/cobra"
)

// A Change is what install and uninstall print: a file of the host's, and the
// commands that put it there or take it away, if they are the user's to run.
type Change struct {
	Resolver resolver.Kind `json:"resolver"`
	File     string        `json:"file"`
	Content  string        `json:"content"`  // of the file; "": it goes
	Done     bool          `json:"done"`     // it is so: nothing is left to do
	Commands []string      `json:"commands"` // for a shell, in this order
}

type installOptions struct {
	resolver string // "": the one that is found
	format   streams.Format
}

func newInstall(e Env) *cobra.Command {
	o := &installOptions{format: streams.Table}
	cmd := &cobra.Command{
		Use:   "install",
		Short: "Have this host's resolver ask the daemon for NAME.vm",
		Long: `Have this host's resolver ask the daemon for NAME.vm: one file for
systemd-resolved, NetworkManager's dnsmasq or a dnsmasq of its own, whichever
this host asks. Root writes it. For anybody else the commands are printed that do
so with sudo; to run them at once: banger dns install | sh`,
		Example: "  banger dns install\n  banger dns install | sh\n  banger dns install --resolver dnsmasq",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if o.resolver != "" && !slices.Contains(resolver.Kinds(), o.resolver) {
				return banger.Errorf(banger.Invalid, "no resolver %q", o.resolver).WithRemedy("use %s", strings.Join(resolver.Kinds(), ", "))
			}
			c, err := e.Connect(cmd.Context())
			if err != nil {
				return err
			}
			return runInstall(cmd.Context(), e, o, c)
		},
	}
	cmd.Flags().StringVar(&o.resolver, "resolver", "", "`WHICH`: "+strings.Join(resolver.Kinds(), ", ")+"; without it the one that is found")
	_ = cmd.RegisterFlagCompletionFunc("resolver", cobra.FixedCompletions(resolver.Kinds(), cobra.ShellCompDirectiveNoFileComp))
	addFormat(cmd, &o.format)
	return cmd
}

func runInstall(ctx context.Context, e Env, o *installOptions, c Client) error {
	info, tag, err := served(ctx, c)
	if err != nil {
		return err
	}
	t := resolver.Target{Tag: tag}
	if t.Listen, err = netip.ParseAddrPort(info.Listen); err != nil {
		return banger.Errorf(banger.WrongState, "the daemon serves no names").WithRemedy("banger dns status")
	}
	k := resolver.Kind(o.resolver)
	if k == "" {
		if k, err = e.Host.Detect(); err != nil {
			return err
		}
	}
	f := e.Host.FileOf(k, t)
	ch := Change{Resolver: k, File: f.Path, Content: f.Content, Commands: []string{}}
	if err := e.Host.Check(k, f, t); err != nil {
		return err
	}
	same := e.Host.Same(f)
	if same && e.Host.Root { // it may not have been read
		same, _ = e.asks(ctx, info)
	}
	switch {
	case same:
		ch.Done = true
		e.IO.Note("%s sends .vm to %s already", f.Path, t.Listen)
	case e.Host.Root:
		if err := e.Host.Put(f); err != nil {
			return fmt.Errorf("write %s: %w", f.Path, err)
		}
		if err := e.Host.Run(ctx, resolver.Reload(k)); err != nil {
			return err
		}
		ch.Done = true
		e.IO.Note("%s sends .vm to %s now", f.Path, t.Listen)
		if yes, instead := e.asks(ctx, info); !yes {
			e.IO.Note("but this host does not resolve it yet: %s", instead)
		}
	default:
		ch.Commands = resolver.PutLines(k, f)
		e.IO.Note("these commands have this host ask for .vm at %s:", t.Listen)
	}
	return e.print(o.format, []Change{ch})
}

// print writes what is to be run as it is, so that a shell can read it.
func (e Env) print(f streams.Format, all []Change) error {
	if f != streams.Table {
		return e.IO.Print(f, all, nil)
	}
	for _, c := range all {
		for _, line := range c.Commands {
			if err := e.IO.Println(line); err != nil {
				return err
			}
		}
	}
	return nil
}
