// Package host is the approved shell-out layer: the one door to other
// programs. Run for tools that end, Launch for processes that outlive the
// daemon, Watch for when they end.
package host

import (
	"context"
	"os"

	"banger"
)

// A Runner runs one approved tool to its end.
type Runner interface {
	// Run returns what the tool wrote on stdout; *ExitError if it ran and
	// failed, a *banger.Error with the package to install if it is missing.
	// A cancelled ctx ends the tool's whole process group.
	Run(ctx context.Context, c Cmd) (stdout []byte, err error)
}

// A Launcher starts a process that outlives the daemon: own session and
// process group, no inherited descriptors but Files, output appended to log.
type Launcher interface {
	Launch(ctx context.Context, c Cmd, log string) (ProcID, error)
}

// A ProcID is a process for good: a PID alone is reused.
type ProcID struct {
	PID     int
	Started uint64 // clock ticks since boot, field 22 of /proc/PID/stat
}

// A Cmd is one run of an approved tool.
type Cmd struct {
	Tool   string // a name of the allow-list, found in PATH and the sbin directories
	Args   []string
	Stdin  []byte
	Env    []string // all of it; nothing is inherited; LC_ALL=C.UTF-8 and PATH are added
	Dir    string
	Files  []*os.File        // descriptors 3 and up
	Stderr func(line string) // each line of stderr as it comes, escaped; may be nil
	Owner  *banger.Owner     // nil: as the daemon
	Out    string            // of a Launch: where stdout is appended to, if not to the log
	Scope  string            // of a Launch: the systemd scope that the process is to have, where there is one
}
