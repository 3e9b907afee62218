package usernet_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"banger"
	"banger/internal/host"
	"banger/internal/network"
	"banger/internal/network/usernet"
	"banger/internal/network/usernet/passt"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A bench has directories of VMs, and daemons that come and go.
type bench struct {
	t    *testing.T
	dir  string
	path string // PATH in which passt is looked for
}

const limit = 30 * time.Second

func newBench(t *testing.T) bench {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "bp") // t.TempDir is too long for a socket, and closed to VMs' users
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o711); err != nil {
		t.Fatal(err)
	}
	b := bench{t, dir, os.Getenv("PATH")}
	t.Cleanup(func() {
		if left := b.processes(); len(left) > 0 {
			t.Errorf("left behind: %v", left)
		}
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return b
}

// working is a bench on a machine where passt works.
func working(t *testing.T) bench {
	t.Helper()
	b := newBench(t)
	if _, err := exec.LookPath("passt"); err != nil {
		t.Skip("passt is not installed: apt install passt")
	}
	if found := b.daemon(usernet.StackPasst).Assess(t.Context(), b.nic(1)); found.Err != nil {
		t.Skip("passt does not work here: ", found.Err)
	}
	return b
}

// daemon is an Attacher as a daemon that was just started has it.
func (b bench) daemon(stack string) *usernet.Attacher {
	b.t.Helper()
	w, err := host.NewWatcher()
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() {
		if err := w.Close(); err != nil {
			b.t.Error(err)
		}
	})
	return usernet.New(usernet.Config{
		Stack: stack, Passt: passt.New(host.New(b.path), w, os.Geteuid()), GuestPort: 5122,
		Place: func(id banger.VMID) passt.Place {
			return passt.Place{Socket: b.file(id, "net.sock"), Mark: b.file(id, "net.pid"), Log: b.file(id, "vmm.log")}
		},
	})
}

func (b bench) file(id banger.VMID, name string) string {
	return filepath.Join(b.dir, string(id), name)
}

// nic is a VM whose directory is there.
func (b bench) nic(id int, ports ...string) network.NIC {
	b.t.Helper()
	n := nic(id)
	n.Stream = true
	dir := filepath.Join(b.dir, string(n.VM))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		b.t.Fatal(err)
	}
	if os.Geteuid() == 0 {
		n.Owner = &banger.Owner{UID: 0x70000000 + uint32(id), GID: 0x70000000 + uint32(id)}
		if err := os.Chown(dir, int(n.Owner.UID), int(n.Owner.GID)); err != nil {
			b.t.Fatal(err)
		}
	}
	for _, s := range ports {
		p, err := banger.ParsePublish(s)
		if err != nil {
			b.t.Fatal(err)
		}
		n.Publish = append(n.Publish, p)
	}
	return n
}

// processes are those that name a file of the bench.
func (b bench) processes() (found []host.Proc) {
	cmdlines, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, f := range cmdlines {
		text, err := os.ReadFile(f)
		if err != nil || !strings.Contains(string(text), b.dir+"/") {
			continue
		}
		var pid int
		fmt.Sscanf(f, "/proc/%d/cmdline", &pid)
		if id, err := host.ProcOf(pid); err == nil && host.Alive(id) {
			if p, err := host.Inspect(id); err == nil {
				found = append(found, p)
			}
		}
	}
	return found
}

// one is the only process there is.
func (b bench) one() host.Proc {
	b.t.Helper()
	all := b.processes()
	if len(all) != 1 {
		b.t.Fatalf("%d processes, want one: %v", len(all), all)
	}
	return all[0]
}

// ended waits until a process has.
func (b bench) ended(p host.Proc) {
	b.t.Helper()
	w, err := host.NewWatcher()
	if err != nil {
		b.t.Fatal(err)
	}
	defer w.Close()
	watch, err := w.Watch(p.ProcID)
	if errors.Is(err, host.ErrGone) {
		return
	}
	if err != nil {
		b.t.Fatal(err)
	}
	wait(b.t, watch.Gone, "the end of a process")
}

func wait(t *testing.T, c <-chan struct{}, what string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	select {
	case <-c:
	case <-ctx.Done():
		t.Fatalf("waited %s for %s", limit, what)
	}
}

// nothing is left of a VM that was detached.
func (b bench) nothing(id banger.VMID) {
	b.t.Helper()
	if all := b.processes(); len(all) > 0 {
		b.t.Errorf("processes: %v", all)
	}
	for _, name := range []string{"net.sock", "net.pid"} {
		if _, err := os.Lstat(b.file(id, name)); !errors.Is(err, os.ErrNotExist) {
			b.t.Errorf("%s: %v", name, err)
		}
	}
}

func detach(t *testing.T, a *usernet.Attacher, n network.NIC) {
	t.Helper()
	if err := a.Detach(t.Context(), n); err != nil {
		t.Error(err)
	}
}

// free returns a port that nobody listens on.
func free(t *testing.T) uint16 {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return uint16(l.Addr().(*net.TCPAddr).Port)
}
