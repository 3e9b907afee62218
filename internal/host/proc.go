package host

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// ErrGone means that there is no such process any more, or only its zombie.
var ErrGone = errors.New("the process is gone")

// ProcOf returns the identity of the process that has this PID now.
func ProcOf(pid int) (ProcID, error) {
	st, err := readStat(pid)
	if err != nil {
		return ProcID{}, err
	}
	return ProcID{PID: pid, Started: st.started}, nil
}

// Alive reports whether p lives. A zombie is dead, and so is a PID that
// another process has by now.
func Alive(p ProcID) bool { return alive(p) == nil }

// alive returns nil if p lives, ErrGone if not, else why it cannot be told.
func alive(p ProcID) error {
	st, err := readStat(p.PID)
	if err == nil && (st.started != p.Started || st.state == 'Z' || st.state == 'X') {
		err = ErrGone
	}
	return err
}

type stat struct {
	state   byte
	started uint64
}

func readStat(pid int) (stat, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return stat{}, goneOr(err)
	}
	return parseStat(b)
}

// goneOr is ErrGone where an error of /proc means that, else the error: a process
// that cannot be looked at, for want of descriptors perhaps, may well live.
func goneOr(err error) error {
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ESRCH) {
		return ErrGone
	}
	return err
}

// parseStat reads proc_pid_stat(5): "PID (COMM) STATE …", where COMM may hold
// spaces and parentheses, and field 22 is the start time.
func parseStat(b []byte) (stat, error) {
	end := bytes.LastIndexByte(b, ')')
	if end < 0 {
		return stat{}, fmt.Errorf("no command in %q", b)
	}
	f := strings.Fields(string(b[end+1:]))
	const first = 3 // the number of f[0] in the manual
	if len(f) <= 22-first || len(f[0]) != 1 {
		return stat{}, fmt.Errorf("too few fields in %q", b)
	}
	started, err := strconv.ParseUint(f[22-first], 10, 64)
	if err != nil {
		return stat{}, fmt.Errorf("start time: %w", err)
	}
	return stat{state: f[0][0], started: started}, nil
}

// A Proc is a process that was found.
type Proc struct {
	ProcID
	UID  int // real user
	Argv []string
}

// FindByArg returns the living processes that have arg as a whole element of
// their argv. Other users' are included: the caller compares UID.
func FindByArg(arg string) ([]Proc, error) {
	ents, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	var found []Proc
	for _, e := range ents {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		p, err := lookAt(pid)
		if errors.Is(err, ErrGone) || errors.Is(err, fs.ErrPermission) {
			continue // it ended meanwhile, or is hidden from this user
		}
		if err != nil {
			return nil, err // it could be the one
		}
		for _, a := range p.Argv {
			if a == arg {
				found = append(found, p)
				break
			}
		}
	}
	return found, nil
}

// Inspect returns the living process p with its argv, ErrGone if it is gone.
func Inspect(p ProcID) (Proc, error) {
	found, err := lookAt(p.PID)
	if err != nil {
		return Proc{}, err
	}
	if found.ProcID != p {
		return Proc{}, ErrGone
	}
	return found, nil
}

// maxArgv bounds what is read of a foreign process's argv, which it may have
// made as long as it likes.
const maxArgv = 256 << 10

func readSome(path string, limit int64) (_ []byte, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	return io.ReadAll(io.LimitReader(f, limit))
}

// lookAt reads start time, argv and start time again, so that all three are
// one process's.
func lookAt(pid int) (Proc, error) {
	before, err := readStat(pid)
	if err != nil {
		return Proc{}, err
	}
	if before.state == 'Z' || before.state == 'X' {
		return Proc{}, ErrGone
	}
	dir := fmt.Sprintf("/proc/%d", pid)
	b, err := readSome(dir+"/cmdline", maxArgv)
	if err != nil {
		return Proc{}, goneOr(err)
	}
	var st unix.Stat_t
	if err := unix.Stat(dir, &st); err != nil {
		return Proc{}, goneOr(err)
	}
	after, err := readStat(pid)
	if err != nil {
		return Proc{}, err
	}
	if after.started != before.started {
		return Proc{}, ErrGone
	}
	argv := strings.Split(strings.TrimSuffix(string(b), "\x00"), "\x00")
	return Proc{ProcID: ProcID{PID: pid, Started: before.started}, UID: int(st.Uid), Argv: argv}, nil
}
