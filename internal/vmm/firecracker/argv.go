package firecracker

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"banger"
	"banger/internal/host"
	"banger/internal/vmm"
)

// marker is the element of Firecracker's argv that tells one launch from all
// others; it stands in each line of its log, too.
func marker(launch string) string { return "banger-" + launch }

// argv is Firecracker's command line. Seccomp is on unless one asks for
// --no-seccomp, as the SDK's own builder does by default. The log is given here
// and not through the API: until then it would go to stdout, the guest's console.
func argv(m vmm.Machine, socket string) []string {
	return []string{
		"--id", marker(m.Launch),
		"--api-sock", socket,
		"--log-path", filepath.Join(m.Dir, logName), "--level", "Info", "--show-level",
		"--metrics-path", filepath.Join(m.Dir, metricsName),
	}
}

// isLaunch reports whether argv is that of a Firecracker of this launch, and
// not of a grep for one.
func isLaunch(argv []string, launch string) bool {
	return argv[0] == tool && after(argv, "--id") == marker(launch) && socketIn(argv) != ""
}

func socketIn(argv []string) string { return after(argv, "--api-sock") }

func after(argv []string, option string) string {
	if i := slices.Index(argv, option); i >= 0 && i+1 < len(argv) {
		return argv[i+1]
	}
	return ""
}

// prepareLogs makes the files that Firecracker opens itself, as its own user,
// and says in the console's log where this run's begins. Firecracker does not
// append to its own: they hold the last run.
func prepareLogs(m vmm.Machine) error {
	for _, own := range []string{logName, metricsName} {
		if err := emptyLog(filepath.Join(m.Dir, own), m.Owner); err != nil {
			return fmt.Errorf("open %s: %w", own, err)
		}
	}
	f, err := host.OpenLog(m.SerialLog, m.Owner)
	if err == nil {
		if _, werr := fmt.Fprintf(f, "%s\n", beginning(m.Launch)); werr != nil {
			// No room. What an earlier run's guest said last must not be taken for
			// this one's.
			err = f.Truncate(0)
		}
		err = errors.Join(err, f.Close())
	}
	if err != nil {
		return fmt.Errorf("open the serial log: %w", err)
	}
	return nil
}

func emptyLog(path string, o *banger.Owner) error {
	f, err := host.OpenLog(path, o)
	if err != nil {
		return err
	}
	return errors.Join(f.Truncate(0), f.Close())
}

// cutFile frees all but the last half limit of a file that has more than limit
// bytes on disk, and leaves a hole: whoever writes to it does not append, so
// that its size has to stay. A file that is not there is none to cut.
func cutFile(path string, limit int64) (err error) {
	f, err := os.OpenFile(path, os.O_RDWR|unixNoFollow, 0)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	return punch(f, limit)
}
