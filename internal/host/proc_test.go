package host_test

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"banger/internal/host"
)

func TestStat(t *testing.T) {
	const rest = " S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4711 20 21"
	for comm, ok := range map[string]bool{"(sh)": true, "(a) R 1 (b)": true, "(two words)": true, "(\xff\n)": true, "sh": false} {
		state, started, err := host.ParseStat([]byte("12 " + comm + rest))
		if (err == nil) != ok {
			t.Errorf("%q: %v", comm, err)
		}
		if ok && (state != 'S' || started != 4711) {
			t.Errorf("%q: %c, %d", comm, state, started)
		}
	}
	for _, bad := range []string{"", "1 (a)", "1 (a) S", "1 (a) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 x"} {
		if _, _, err := host.ParseStat([]byte(bad)); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
}

func FuzzStat(f *testing.F) {
	own, err := os.ReadFile("/proc/self/stat")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(own)
	f.Add([]byte("1 (a) b) S 1"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if state, _, err := host.ParseStat(b); err == nil && bytes.IndexByte(b, state) < 0 {
			t.Errorf("state %q is not in %q", state, b)
		}
	})
}

func TestFindByArg(t *testing.T) {
	// Not the whole of an element: not meant.
	const marker = "banger-5f0c1e27"
	for _, arg := range []string{marker, marker + "x", "x " + marker} {
		cmd := exec.Command("sh", "-c", "read x", "sh", arg)
		in, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		defer func() { in.Close(); cmd.Wait() }()
		found, err := host.FindByArg(arg)
		if err != nil {
			t.Fatal(err)
		}
		if len(found) != 1 || found[0].PID != cmd.Process.Pid || found[0].UID != os.Getuid() || !slices.Contains(found[0].Argv, arg) {
			t.Fatalf("%q: found %+v, want %d", arg, found, cmd.Process.Pid)
		}
		if p, err := host.Inspect(found[0].ProcID); err != nil || !slices.Equal(p.Argv, found[0].Argv) {
			t.Errorf("inspected %+v, %v", p, err)
		}
	}
}

func TestDead(t *testing.T) {
	cmd := exec.Command("true")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p, err := host.ProcOf(cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	// Ended, not reaped: a zombie.
	if err := unix.Waitid(unix.P_PID, p.PID, nil, unix.WEXITED|unix.WNOWAIT, nil); err != nil {
		t.Fatal(err)
	}
	check := func(what string) {
		t.Helper()
		if host.Alive(p) {
			t.Errorf("%s is alive", what)
		}
		if _, err := host.Inspect(p); !errors.Is(err, host.ErrGone) {
			t.Errorf("inspect %s: %v", what, err)
		}
		if err := host.Signal(p, unix.SIGKILL); !errors.Is(err, host.ErrGone) {
			t.Errorf("signal %s: %v", what, err)
		}
	}
	check("a zombie")
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	check("what is reaped")
}

// A PID that another process has by now is not the one that is meant.
func TestReusedPID(t *testing.T) {
	self, err := host.ProcOf(os.Getpid())
	if err != nil || !host.Alive(self) {
		t.Fatal(self, err)
	}
	self.Started--
	if host.Alive(self) {
		t.Error("alive")
	}
	// Signal would end the test.
	if err := host.Signal(self, unix.SIGKILL); !errors.Is(err, host.ErrGone) {
		t.Errorf("signal: %v", err)
	}
	if _, err := watcher(t).Watch(self); !errors.Is(err, host.ErrGone) {
		t.Errorf("watch: %v", err)
	}
}

// A process that cannot be looked at is not said to be gone.
func TestWithoutDescriptors(t *testing.T) {
	me, err := host.ProcOf(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	w, err := host.NewWatcher()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	none := limit
	none.Cur = 3
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &none); err != nil {
		t.Fatal(err)
	}
	_, inspect := host.Inspect(me)
	_, find := host.FindByArg("nobody's")
	_, watch := w.Watch(me)
	signal := host.Signal(me, 0)
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	for what, err := range map[string]error{"inspect": inspect, "find": find, "watch": watch, "signal": signal} {
		if err == nil || errors.Is(err, host.ErrGone) {
			t.Errorf("%s: %v", what, err)
		}
	}
}
