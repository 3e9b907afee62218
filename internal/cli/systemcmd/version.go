package systemcmd

import (
	"banger/internal/cli/streams"
	"banger/internal/version"

	"github.com/spf13/cobra"
)

func newVersion(e Env) *cobra.Command {
	format := streams.Table
	cmd := &cobra.Command{
		Use:     "version",
		Short:   "Print which build of banger this is",
		Example: "  banger version\n  banger version -o json",
		Args:    cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			v := version.Version()
			if format == streams.Table {
				return e.IO.Println(v.String())
			}
			return e.IO.Print(format, v, nil)
		},
	}
	addFormat(cmd, &format)
	return cmd
}
