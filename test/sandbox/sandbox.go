// Package sandbox gives a test, a script or a benchmark an installation of
// banger of its own, made of the programs that were built, and says what is
// left of it at the end. A daemon of the user's is never touched.
package sandbox

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"banger/internal/api"
	"banger/internal/api/client"
)

// closeLimit is how long an installation may take to end: under emulation a
// guest powers off in seconds, a loaded machine needs many of them.
const closeLimit = 3 * time.Minute

// A Sandbox is one installation below Dir. Its path is short: a socket's path
// has 107 bytes at most.
type Sandbox struct {
	Dir, State, Run string
	Bin             string // directory of the programs
	environ         []string
}

// Root is the checkout that this source lies in.
func Root() string {
	_, file, _, _ := runtime.Caller(0)
	return filepath.Join(filepath.Dir(file), "..", "..")
}

// Make makes the directories of a Sandbox; no daemon is started. The programs
// are those of BANGER_TEST_BIN, else of the checkout's bin/; the bundle is that
// of BANGER_TEST_RUNTIME, else the checkout's runtime/.
func Make() (*Sandbox, error) {
	bin := orElse(os.Getenv("BANGER_TEST_BIN"), filepath.Join(Root(), "bin"))
	for _, p := range []string{"banger", "bangerd"} {
		if _, err := os.Stat(filepath.Join(bin, p)); err != nil {
			return nil, fmt.Errorf("find the programs: %w (make build)", err)
		}
	}
	dir, err := os.MkdirTemp("/tmp", "bt-")
	if err != nil {
		return nil, err
	}
	// Where bangerd is root, VMMs run as users of their own and pass through.
	if err := os.Chmod(dir, 0o711); err != nil {
		return nil, err
	}
	s := &Sandbox{Dir: dir, State: filepath.Join(dir, "s"), Run: filepath.Join(dir, "r"), Bin: bin}
	for _, d := range []string{"home", "cache", "config", "data"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o700); err != nil {
			return nil, errors.Join(err, os.RemoveAll(dir))
		}
	}
	s.environ = []string{
		"PATH=" + bin + ":" + os.Getenv("PATH"),
		"HOME=" + filepath.Join(dir, "home"),
		"XDG_CACHE_HOME=" + filepath.Join(dir, "cache"),
		"XDG_CONFIG_HOME=" + filepath.Join(dir, "config"),
		"XDG_DATA_HOME=" + filepath.Join(dir, "data"),
		"BANGER_STATE_DIR=" + s.State,
		"BANGER_RUN_DIR=" + s.Run,
		"BANGER_RUNTIME_DIR=" + Runtime(),
		"BANGER_LOG_LEVEL=debug",
		"BANGER_NETWORK=user", // or tests as root would make taps where they run
		"TERM=xterm", "LANG=C.UTF-8", "TMPDIR=/tmp",
	}
	if stack := os.Getenv("BANGER_TEST_NETWORK_USER"); stack != "" {
		s.Set("BANGER_NETWORK_USER", stack)
	}
	return s, nil
}

// Runtime is the directory of the default bundle.
func Runtime() string {
	return orElse(os.Getenv("BANGER_TEST_RUNTIME"), filepath.Join(Root(), "runtime"))
}

// Build builds the programs from this source into dir, as another build of that
// name.
func Build(dir, name string) error {
	cmd := exec.Command(filepath.Join(Root(), "scripts", "go"), "build", "-trimpath", "-buildvcs=false",
		"-ldflags", "-s -w -X banger/internal/version.build="+name, "-o", dir+"/", "./cmd/banger", "./cmd/bangerd", "./cmd/banger-guest")
	cmd.Dir = Root()
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build the programs: %w\n%s", err, out)
	}
	return nil
}

func orElse(s, otherwise string) string {
	if s != "" {
		return s
	}
	return otherwise
}

// Environ is the environment of the sandbox's programs.
func (s *Sandbox) Environ() []string { return slices.Clone(s.environ) }

// Set sets a variable for the programs that are started from now on.
func (s *Sandbox) Set(name, value string) {
	s.environ = slices.DeleteFunc(s.environ, func(kv string) bool { return strings.HasPrefix(kv, name+"=") })
	s.environ = append(s.environ, name+"="+value)
}

// Command is banger with these arguments, not yet started.
func (s *Sandbox) Command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, filepath.Join(s.Bin, "banger"), args...)
	cmd.Env, cmd.Dir = s.Environ(), s.Dir
	return cmd
}

// Lock is what the daemon's lock file says; not held: no daemon runs.
func (s *Sandbox) Lock() (lock api.LockFile, held bool, err error) {
	return api.ReadLock(filepath.Join(s.State, "daemon.lock"))
}

// Client returns a client of the daemon, which must run.
func (s *Sandbox) Client() (*client.Client, error) {
	lock, held, err := s.Lock()
	if err == nil && (!held || lock.Socket == "") {
		err = errors.New("no daemon runs")
	}
	if err != nil {
		return nil, err
	}
	return client.New(lock.Socket), nil
}

// Close ends the VMs and the daemon and removes the directories. What is left
// nevertheless, a process, a mount or a loop device, is ended and an error.
func (s *Sandbox) Close() error {
	var errs []error
	if _, err := os.Stat(filepath.Join(s.State, "banger.db")); err == nil {
		ctx, cancel := context.WithTimeout(context.Background(), closeLimit)
		defer cancel()
		if out, err := s.Command(ctx, "daemon", "stop", "--all").CombinedOutput(); err != nil {
			errs = append(errs, fmt.Errorf("banger daemon stop --all: %w\n%s", err, out))
		}
	}
	left, err := s.Leftovers()
	if err != nil {
		errs = append(errs, err)
	}
	for _, l := range left {
		errs = append(errs, fmt.Errorf("left behind: %s", l))
		if l.PID != 0 {
			errs = append(errs, kill(l.PID))
		}
	}
	return errors.Join(append(errs, os.RemoveAll(s.Dir))...)
}
