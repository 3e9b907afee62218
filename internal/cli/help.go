package cli

import (
	"strings"

	"banger"

	"github.com/spf13/cobra"
)

// newHelp returns banger help, which cobra has too; but there an unknown topic
// is no mistake.
func newHelp(root *cobra.Command) *cobra.Command {
	return &cobra.Command{
		Use:     "help [COMMAND]",
		Short:   "Help about any command",
		Example: "  banger help run\n  banger help exit-codes",
		GroupID: others,
		ValidArgsFunction: func(_ *cobra.Command, args []string, _ string) (names []string, _ cobra.ShellCompDirective) {
			cmd, rest, err := root.Find(args)
			if err != nil || len(rest) > 0 {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			for _, c := range cmd.Commands() {
				if c.IsAvailableCommand() || c.IsAdditionalHelpTopicCommand() {
					names = append(names, c.Name())
				}
			}
			return names, cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(_ *cobra.Command, args []string) error {
			cmd := root
			for _, word := range args {
				next := child(cmd, word)
				if next == nil {
					e := banger.Errorf(banger.Invalid, "no help about %q", strings.Join(args, " "))
					if like := similarVerbs(cmd, word); len(like) > 0 {
						return e.WithRemedy("did you mean: %s", strings.Join(like, ", or: "))
					}
					return e.WithRemedy("see: banger help")
				}
				cmd = next
			}
			cmd.InitDefaultHelpFlag() // shown among its flags
			return cmd.Help()
		},
	}
}

func child(cmd *cobra.Command, name string) *cobra.Command {
	for _, c := range cmd.Commands() {
		if c.Name() == name || c.HasAlias(name) {
			return c
		}
	}
	return nil
}
