package matrix

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// slack is what the daemon's heap may have more of than half way, bytes. In 200 cycles
// all that is kept of events and of operations that have ended is kept by then, and 80
// more added 33 KiB; in 10 it is still being filled, which takes some 100 KiB.
const slack = 256 << 10

// A footprint is what an installation has on the host while it has no VM.
type footprint struct {
	inside inside
	rss    int64    // of the daemon, in bytes
	fds    []string // of the daemon: what kind of thing each is
	world  string
	host   string
}

func (f footprint) String() string {
	return fmt.Sprintf("%d goroutines, %d descriptors, heap %d KiB, resident %d KiB",
		f.inside.goroutines, len(f.fds), f.inside.heap>>10, f.rss>>10)
}

// inside is what the daemon says of itself; see internal/daemon/faults_inside.go.
type inside struct {
	goroutines int
	heap       int64
	stacks     string
}

// measure measures the footprint; no operation may be under way.
func (b *box) measure(host func() string) footprint {
	b.t.Helper()
	f, err := b.footprint(host)
	if err != nil {
		b.t.Fatal(err)
	}
	return f
}

func (b *box) footprint(host func() string) (f footprint, err error) {
	if f.inside, err = b.inside(); err != nil {
		return f, err
	}
	proc := fmt.Sprintf("/proc/%d", b.cmd.Process.Pid)
	fds, err := filepath.Glob(proc + "/fd/*")
	if err != nil {
		return f, err
	}
	for _, fd := range fds {
		if to, err := os.Readlink(fd); err == nil { // not Glob's own time's
			kind, _, _ := strings.Cut(to, ":[")
			f.fds = append(f.fds, kind)
		}
	}
	status, err := os.ReadFile(proc + "/status")
	if err != nil {
		return f, err
	}
	for line := range strings.Lines(string(status)) {
		if kib, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			n, err := strconv.ParseInt(strings.Fields(kib)[0], 10, 64)
			if err != nil {
				return f, err
			}
			f.rss = n << 10
		}
	}
	if f.world, err = b.world(); err != nil {
		return f, err
	}
	if host != nil {
		f.host = host()
	}
	return f, nil
}

// inside asks the daemon.
func (b *box) inside() (in inside, err error) {
	c, err := net.Dial("unix", filepath.Join(b.Dir, "faults.inside"))
	if err != nil {
		return in, err
	}
	defer c.Close()
	r := bufio.NewReader(c)
	if _, err := fmt.Fscanf(r, "goroutines %d\nheap %d\n", &in.goroutines, &in.heap); err != nil {
		return in, fmt.Errorf("what the daemon has inside: %w", err)
	}
	stacks, err := io.ReadAll(r)
	in.stacks = string(stacks)
	return in, err
}

// settlesAt fails unless the footprint comes to be what it was early, but for
// the memory, which may be a little more than it was in the middle.
func (b *box) settlesAt(when string, early, middle footprint, host func() string) {
	b.t.Helper()
	var now footprint
	err := until(20*time.Second, func() (err error) {
		if now, err = b.footprint(host); err == nil {
			err = now.differs(early, middle)
		}
		return err
	})
	b.t.Logf("report: %s: %s; after %d %s", when, now, steady, early)
	if err != nil {
		b.t.Errorf("after %s: %v", when, err)
	}
}

// differs says how f differs from what was there early and in the middle.
func (f footprint) differs(early, middle footprint) error {
	var errs []error
	if f.inside.goroutines != early.inside.goroutines {
		errs = append(errs, fmt.Errorf("%d goroutines, there were %d:\n%s", f.inside.goroutines, early.inside.goroutines, f.inside.stacks))
	}
	for what, is := range map[string][2]string{
		"descriptors of the daemon": {strings.Join(early.fds, "\n"), strings.Join(f.fds, "\n")},
		"the installation":          {early.world, f.world},
		"the host":                  {early.host, f.host},
	} {
		if d := diff(is[0]+"\n", is[1]+"\n"); d != "" {
			errs = append(errs, fmt.Errorf("%s (-: missing, +: too much):\n%s", what, d))
		}
	}
	if f.inside.heap > middle.inside.heap+slack {
		errs = append(errs, fmt.Errorf("the daemon's heap has %d bytes, half way it had %d", f.inside.heap, middle.inside.heap))
	}
	return errors.Join(errs...)
}
