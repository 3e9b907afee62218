// Package matrix breaks a real bangerd at every step of everything that it does
// to a VM, and looks at what is left. The steps are the daemon's own, heard of
// at the points where a daemon built with the tag faults asks a test what to do;
// what is expected stands in testdata, a row per operation and point. A point
// without its row, or a row without its point, is untested, and fails.
//
// Run by make test.
package matrix

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"banger/test/sandbox"
)

// limit bounds every wait: a boot that takes 3 s alone has taken a minute on a
// loaded machine.
const limit = 4 * time.Minute

func TestMain(m *testing.M) {
	if os.Getenv(idleArg) != "" {
		unix.Pause()
	}
	if filepath.Base(os.Args[0]) == vmmTool {
		syscall.Exit(standIn(os.Args[1:]))
	}
	if arg := os.Getenv(writerArg); arg != "" {
		os.Exit(writer(arg))
	}
	code := m.Run()
	if built.dir != "" {
		if err := os.RemoveAll(built.dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

// need skips the test outside make test.
func need(t *testing.T) {
	t.Helper()
	if os.Getenv("BANGER_TEST") == "" {
		t.Skip("breaks real daemons: make test")
	}
}

// built are the programs with the tag faults, the stand-in, and a bundle whose
// image is next to nothing.
var built struct {
	once                  sync.Once
	err                   error
	dir                   string
	bin, standIn, runtime string
	rootless              string // a bin without banger-root
}

func build(t *testing.T) {
	t.Helper()
	need(t)
	built.once.Do(func() { built.err = buildAll() })
	if built.err != nil {
		t.Fatal(built.err)
	}
}

func buildAll() (err error) {
	if built.dir, err = os.MkdirTemp("/tmp", "bm-"); err != nil {
		return err
	}
	if err := os.Chmod(built.dir, 0o711); err != nil { // VMMs may run as users of their own
		return err
	}
	built.bin, built.standIn, built.runtime = built.dir+"/bin", built.dir+"/standin", built.dir+"/runtime"
	for _, d := range []string{built.bin, built.standIn, built.runtime} {
		if err := os.Mkdir(d, 0o755); err != nil {
			return err
		}
	}
	if err := tool("go", "build", "-tags", "faults", "-o", built.bin, "banger/cmd/..."); err != nil {
		return err
	}
	if err := withoutRoot(); err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	if err := tool("cp", self, filepath.Join(built.standIn, vmmTool)); err != nil {
		return err
	}
	if err := os.Setenv("BANGER_TEST_BIN", built.bin); err != nil {
		return err
	}
	return bundleOfNothing(built.runtime, sandbox.Runtime())
}

// withoutRoot links the programs but banger-root: a bangerd that is root starts
// the one that lies beside it.
func withoutRoot() error {
	built.rootless = built.dir + "/rootless"
	if err := os.Mkdir(built.rootless, 0o755); err != nil {
		return err
	}
	for _, name := range []string{"banger", "bangerd", "banger-guest"} {
		if err := os.Link(filepath.Join(built.bin, name), filepath.Join(built.rootless, name)); err != nil {
			return err
		}
	}
	return nil
}

// tool runs a program of the host.
func tool(name string, args ...string) error {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = append(os.Environ(), "PATH="+os.Getenv("PATH")+":/usr/sbin:/sbin", "CGO_ENABLED=0")
	if p, err := exec.LookPath(name); err != nil {
		cmd.Path, cmd.Err = filepath.Join("/usr/sbin", name), nil
	} else {
		cmd.Path, cmd.Err = p, nil
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s %q: %w\n%s", name, args, err, out)
	}
	return nil
}
