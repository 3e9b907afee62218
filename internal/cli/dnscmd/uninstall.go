package dnscmd

import (
	"context"
	"fmt"

	"banger/internal/cli/streams"
	"banger/internal/resolver"

	"github.com/spf13/cobra"
)

func newUninstall(e Env) *cobra.Command {
	format := streams.Table
	cmd := &cobra.Command{
		Use:   "uninstall",
		Short: "Take away what install gave this host's resolver",
		Long: `Take away the file that install gave this host's resolver, of whichever
installation of banger. Root removes it; for anybody else the commands are printed
that do so with sudo. It needs no daemon.`,
		Example: "  banger dns uninstall\n  banger dns uninstall | sh",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return runUninstall(cmd.Context(), e, format) },
	}
	addFormat(cmd, &format)
	return cmd
}

func runUninstall(ctx context.Context, e Env, f streams.Format) error {
	all := []Change{}
	for _, s := range e.Host.Setups() {
		ch := Change{Resolver: s.Resolver, File: s.File, Commands: []string{}}
		if e.Host.Root {
			if err := e.Host.Remove(s); err != nil {
				return fmt.Errorf("remove %s: %w", s.File, err)
			}
			if err := e.Host.Run(ctx, resolver.Reload(s.Resolver)); err != nil {
				return err
			}
			ch.Done = true
			e.IO.Note("%s is gone", s.File)
		} else {
			ch.Commands = e.Host.RemoveLines(s)
			e.IO.Note("these commands take %s away:", s.File)
		}
		all = append(all, ch)
	}
	if len(all) == 0 {
		e.IO.Note("no resolver of this host has a file of banger's")
	}
	return e.print(f, all)
}
