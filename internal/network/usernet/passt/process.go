package passt

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"regexp"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"

	"banger"
	"banger/internal/host"
)

// A Process is one VM's passt. It outlives the daemon, and ends with the VMM
// that is its one client.
type Process struct {
	id    host.ProcID
	watch host.Watch
	log   string
	said  int64 // bytes of log that are not its last words
}

// Gone is closed when it has ended.
func (q *Process) Gone() <-chan struct{} { return q.watch.Gone }

// Why says how it ended, once Gone is closed.
func (q *Process) Why() error {
	said := noSyslog.ReplaceAllString(host.LastWords(q.log, q.said), "")
	return banger.Errorf(banger.HostUnready, "passt %s%s", q.watch.End(), said).WithLog(q.log)
}

// noSyslog is what it adds to each message on a host without a system logger.
var noSyslog = regexp.MustCompile(`Failed to send \d+ bytes to syslog(; )?`)

// End ends it, and returns when it is gone. Idempotent.
func (q *Process) End(ctx context.Context) error {
	for _, sig := range []unix.Signal{unix.SIGTERM, unix.SIGKILL} {
		if err := host.Signal(q.id, sig); err != nil && !errors.Is(err, host.ErrGone) {
			return fmt.Errorf("end passt (PID %d): %w", q.id.PID, err)
		}
		limit, cancel := context.WithTimeout(ctx, termLimit)
		select {
		case <-q.watch.Gone:
			cancel()
			return nil
		case <-limit.Done():
			cancel()
		}
	}
	return fmt.Errorf("passt (PID %d) does not end: %w", q.id.PID, context.DeadlineExceeded)
}

// Find returns the process of a VM that an earlier daemon launched, by its argv,
// its user and its start time; host.ErrGone if there is none.
func (p *Passt) Find(at Place) (*Process, error) {
	all, err := host.FindByArg(at.Socket)
	if err != nil {
		return nil, err
	}
	uid := p.uid
	if at.Owner != nil {
		uid = int(at.Owner.UID)
	}
	for _, f := range all {
		if f.UID != uid || f.Argv[0] != tool || after(f.Argv, "-s") != at.Socket {
			continue // not a passt of this VM's, only something that names its socket
		}
		watch, err := p.watcher.Watch(f.ProcID)
		if errors.Is(err, host.ErrGone) {
			continue
		}
		if err != nil {
			return nil, err
		}
		return &Process{id: f.ProcID, watch: watch, log: at.Log, said: host.SizeOf(at.Log)}, nil
	}
	return nil, host.ErrGone
}

// Clear ends what a VM has of this package's and removes its files. Idempotent.
func (p *Passt) Clear(ctx context.Context, at Place) error {
	_, err := os.Lstat(at.Mark)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // it is made before all else, and removed after it
	}
	if err != nil {
		return err
	}
	for {
		q, err := p.Find(at)
		if errors.Is(err, host.ErrGone) {
			break
		}
		if err == nil {
			err = q.End(ctx)
		}
		if err != nil {
			return err
		}
	}
	for _, path := range []string{at.Socket, at.Mark} {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove what passt left: %w", err)
		}
	}
	return nil
}

func after(argv []string, option string) string {
	if i := slices.Index(argv, option); i >= 0 && i+1 < len(argv) {
		return argv[i+1]
	}
	return ""
}

// readPID reads a PID file, which may be a guest's: no link is followed, no FIFO
// waited for.
func readPID(file string) (int, bool) {
	f, err := os.OpenFile(file, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return 0, false
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, 32))
	if err != nil {
		return 0, false
	}
	return parsePID(b)
}

// parsePID reads "PID\n".
func parsePID(b []byte) (int, bool) {
	text, whole := bytes.CutSuffix(b, []byte("\n"))
	pid, err := strconv.Atoi(string(text))
	return pid, whole && err == nil && pid > 0
}
