package matrix

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"

	"banger/internal/api"
	"banger/internal/privileged"
	"banger/internal/privileged/client"
)

// ofRoot begins the points that are banger-root's own, "root: set rules 2" the
// second of that name in an operation; see internal/fault.
const ofRoot = "root: "

// rootFaults are what banger-root's own points are told.
var rootFaults = map[fault]string{rootFails: "fail", rootKilled: "kill"}

const (
	faultFile  = privileged.RunDir + "/fault"
	pointsFile = privileged.RunDir + "/points"
)

// calmRoot prepares the place of banger-root so that it does nothing by itself,
// which would come between whenever it likes.
func calmRoot() error {
	return errors.Join(os.MkdirAll(privileged.RunDir, 0o711), os.WriteFile(privileged.RunDir+"/calm", nil, 0o600))
}

// arm forgets what banger-root has passed, and has it fail or die at the n-th
// point from now on; 0: nowhere.
func (b *box) arm(n int, how string) {
	if b.host == nil {
		return
	}
	var err error
	b.in(func() {
		if err = os.Remove(pointsFile); errors.Is(err, fs.ErrNotExist) {
			err = nil
		}
		if n > 0 {
			err = errors.Join(err, os.WriteFile(faultFile, fmt.Appendf(nil, "%d %s", n, how), 0o600))
		}
	})
	if err != nil {
		b.t.Errorf("arm banger-root: %v", err)
	}
}

// disarm fails unless the fault has happened, and at which point.
func (b *box) disarm(c trial) {
	b.t.Helper()
	var err error
	b.in(func() { err = os.Remove(faultFile) })
	passed := b.rootPoints()
	if !errors.Is(err, fs.ErrNotExist) || len(passed) < c.nth || passed[c.nth-1] != c.at {
		b.t.Errorf("banger-root did not come to %q, the %d. of %q (%v)", c.at, c.nth, passed, err)
	}
}

var slashes = regexp.MustCompile(`/\S*/`)

// rootStruck fails until the fault has happened.
func (b *box) rootStruck() (err error) {
	b.in(func() {
		if _, e := os.Lstat(faultFile); e == nil {
			err = errors.New("not yet")
		}
	})
	return err
}

// rootPoints are those that banger-root has passed since it was armed.
func (b *box) rootPoints() (points []point) {
	b.t.Helper()
	if b.host == nil {
		return nil
	}
	var text []byte
	var err error
	b.in(func() { text, err = os.ReadFile(pointsFile) })
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		b.t.Fatal(err)
	}
	times := map[string]int{}
	for line := range strings.Lines(string(text)) {
		name := ofRoot + slashes.ReplaceAllString(strings.TrimSpace(line), "") // rows have slashes of their own
		if times[name]++; times[name] > 1 {
			name += " " + strconv.Itoa(times[name])
		}
		points = append(points, point(name))
	}
	return points
}

// roots are the banger-roots of the installation's namespace.
func (b *box) roots() (pids []int) {
	var own string
	b.in(func() { own, _ = os.Readlink("/proc/thread-self/ns/net") })
	cmdlines, _ := filepath.Glob("/proc/[0-9]*/cmdline") // the pattern is well-formed
	for _, path := range cmdlines {
		dir := filepath.Dir(path)
		name, err := os.ReadFile(path)
		if err != nil || filepath.Base(strings.Trim(string(name), "\x00")) != "banger-root" {
			continue // gone, a zombie, or another program
		}
		if ns, err := os.Readlink(dir + "/ns/net"); err == nil && ns == own {
			pid, _ := strconv.Atoi(filepath.Base(dir))
			pids = append(pids, pid)
		}
	}
	return pids
}

// startRoot starts banger-root if none runs, as the command line would.
func (b *box) startRoot() {
	b.t.Helper()
	if b.host == nil || len(b.roots()) > 0 {
		return
	}
	var out []byte
	var err error
	b.in(func() {
		cmd := exec.Command(filepath.Join(built.bin, "banger-root"))
		cmd.Env, cmd.Dir = b.Environ(), "/"
		out, err = cmd.CombinedOutput()
	})
	if err != nil {
		b.t.Fatalf("start banger-root: %v\n%s", err, out)
	}
}

// killRoot kills banger-root, and returns when it is gone.
func (b *box) killRoot() {
	pids := b.roots()
	if len(pids) != 1 {
		b.t.Errorf("banger-roots %v run", pids)
	}
	for _, pid := range pids {
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
			b.t.Error(err)
		}
	}
	if err := until(limit, func() error {
		if left := b.roots(); len(left) > 0 {
			return fmt.Errorf("banger-root %v lives", left)
		}
		return nil
	}); err != nil {
		b.t.Error(err)
	}
}

// endRoot ends banger-root, which would wait some minutes for another daemon.
func (b *box) endRoot() (err error) {
	if b.host == nil || len(b.roots()) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	b.in(func() {
		var c *client.Client
		if c, err = client.Dial(ctx, os.Geteuid()); err == nil {
			err = c.Exit(ctx)
			<-c.Done()
		}
	})
	return errors.Join(err, until(limit, func() error {
		if left := b.roots(); len(left) > 0 {
			return fmt.Errorf("banger-root %v outlives its end", left)
		}
		return nil
	}))
}

// pending are the links that the daemon says it could not have removed.
func (b *box) pending() []string {
	b.t.Helper()
	n, err := b.client.ShowNetwork(b.ctx())
	if err != nil {
		b.t.Fatal(err)
	}
	return n.Pending
}

// leftUntilRoot fails unless all that is left without banger-root is told, and
// goes with its next connection.
func (b *box) leftUntilRoot() {
	b.t.Helper()
	if len(b.roots()) > 0 {
		b.t.Error("a banger-root runs")
	}
	if len(b.pending()) == 0 {
		b.t.Error("nothing is said to be left without banger-root")
	}
	report, err := b.client.Doctor(b.ctx(), api.DoctorRequest{})
	if err != nil {
		b.t.Fatal(err)
	}
	for _, c := range report.Checks {
		if c.Name == "network routed" && (c.Status != "warning" || !strings.Contains(c.Message, b.pending()[0])) {
			b.t.Errorf("doctor does not tell what is left: %+v", c)
		}
	}
	b.startRoot()
	b.eventually("what was left goes", func() error {
		if left := b.pending(); len(left) > 0 {
			return fmt.Errorf("left: %q", left)
		}
		return nil
	})
}
