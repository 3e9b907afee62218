package host_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"banger"
	"banger/internal/host"
)

func launch(t *testing.T, body string) (host.ProcID, string) {
	t.Helper()
	log := filepath.Join(t.TempDir(), "log")
	id, err := script(t, "rm", body).Launch(t.Context(), host.Cmd{Tool: "rm", Dir: "/"}, log)
	if err != nil {
		t.Fatal(err)
	}
	return id, log
}

func TestWatchChildren(t *testing.T) {
	w := watcher(t)
	for body, want := range map[string]host.End{
		"exit 0":          {Known: true},
		"exit 3":          {Known: true, Code: 3},
		"kill -KILL $$":   {Known: true, Sig: unix.SIGKILL},
		"exec sleep 0.01": {Known: true},
	} {
		id, _ := launch(t, body)
		watch, err := w.Watch(id)
		if err != nil {
			t.Fatalf("%s: %v", body, err)
		}
		await(t, "end of "+body, watch.Gone)
		if got := watch.End(); got != want {
			t.Errorf("%s: %+v, want %+v", body, got, want)
		}
		if _, err := os.Stat("/proc/" + strconv.Itoa(id.PID)); err == nil && host.Alive(id) {
			t.Errorf("%s: was not reaped", body)
		}
	}
}

// A child that is just being started has a copy of every descriptor: a process
// that has ended must not be told of by it, as the end of the one whose pidfd
// has the number next.
func TestWatchDuringFork(t *testing.T) {
	w := watcher(t)
	begin := func() (host.ProcID, host.Watch) {
		id, _ := launch(t, "exec sleep 600")
		watch, err := w.Watch(id)
		if err != nil {
			t.Fatal(err)
		}
		return id, watch
	}
	end := func(id host.ProcID, watch host.Watch) {
		if err := host.Signal(id, unix.SIGKILL); err != nil {
			t.Error(err)
		}
		await(t, "end", watch.Gone)
	}
	first, watch := begin()
	copied, err := host.CopyPidfd(watch)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(copied)
	number := host.Pidfd(watch)
	end(first, watch)

	second, lives := begin()
	if host.Pidfd(lives) != number {
		t.Errorf("the pidfds are %d and %d: nothing is tried", number, host.Pidfd(lives))
	}
	end(begin()) // whatever the epoll has to tell was told by then
	select {
	case <-lives.Gone:
		t.Errorf("a process that lives is said to be gone: %s", lives.End())
		if err := host.Signal(second, unix.SIGKILL); err != nil {
			t.Error(err)
		}
	default:
		end(second, lives)
	}
}

// What is not our child is seen to end all the same, and not reaped.
func TestWatchStranger(t *testing.T) {
	w := watcher(t)
	out, err := exec.Command("sh", "-c", "sleep 600 >&- 2>&- & echo $!").Output()
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(out)))
	if err != nil {
		t.Fatal(err)
	}
	id, err := host.ProcOf(pid)
	if err != nil {
		t.Fatal(err)
	}
	a, err := w.Watch(id)
	if err != nil {
		t.Fatal(err)
	}
	b, err := w.Watch(id)
	if err != nil {
		t.Fatal(err)
	}
	if err := host.Signal(id, unix.SIGTERM); err != nil {
		t.Fatal(err)
	}
	await(t, "end", a.Gone)
	await(t, "end, told twice", b.Gone)
	if a.End().Known {
		t.Errorf("the status of a stranger: %+v", a.End())
	}
}

func TestCloseLeavesProcesses(t *testing.T) {
	w, err := host.NewWatcher()
	if err != nil {
		t.Fatal(err)
	}
	id, _ := launch(t, "exec sleep 600")
	watch, err := w.Watch(id)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := w.Close(); err != nil {
			t.Error(err)
		}
	}
	if !host.Alive(id) {
		t.Error("it died")
	}
	select {
	case <-watch.Gone:
		t.Error("it is said to be gone")
	default:
	}
	if _, err := w.Watch(id); !errors.Is(err, os.ErrClosed) {
		t.Errorf("watch after close: %v", err)
	}
	later, err := watcher(t).Watch(id)
	if err != nil {
		t.Fatal(err)
	}
	if err := host.Signal(id, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	await(t, "end", later.Gone)
}

func TestLaunchStandsAlone(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	log := filepath.Join(t.TempDir(), "log")
	h := script(t, "rm", "exec sleep 600")
	id, err := h.Launch(ctx, host.Cmd{Tool: "rm", Dir: "/"}, log)
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	watch, err := watcher(t).Watch(id)
	if err != nil {
		t.Fatal(err)
	}
	if sid, err := unix.Getsid(id.PID); err != nil || sid != id.PID {
		t.Errorf("session %d of %d, %v", sid, id.PID, err)
	}
	if !host.Alive(id) {
		t.Error("it went with the request")
	}
	if err := host.Signal(id, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	await(t, "end", watch.Gone)
}

func TestLaunchLog(t *testing.T) {
	log := filepath.Join(t.TempDir(), "log")
	write(t, log, "before\n", 0o600)
	// What whoever started us forgot to close goes no further.
	left, err := unix.Open(os.DevNull, unix.O_RDONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(left)
	h := script(t, "rm", fmt.Sprintf("readlink /proc/self/fd/0; test -e /proc/self/fd/%d && echo leaked; echo err >&2", left))
	id, err := h.Launch(t.Context(), host.Cmd{Tool: "rm", Dir: "/"}, log)
	if err != nil {
		t.Fatal(err)
	}
	watch, err := watcher(t).Watch(id)
	if err != nil {
		t.Fatal(err)
	}
	await(t, "end", watch.Gone)
	b, err := os.ReadFile(log)
	if err != nil || string(b) != "before\n/dev/null\nerr\n" {
		t.Errorf("log %q, %v", b, err)
	}
}

func TestLaunchAsOwner(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: launches as another user")
	}
	log := filepath.Join(t.TempDir(), "log")
	o := &banger.Owner{UID: 0x70000001, GID: 0x70000001}
	id, err := script(t, "rm", "exec sleep 600").Launch(t.Context(), host.Cmd{Tool: "rm", Dir: "/", Owner: o}, log)
	if err != nil {
		t.Fatal(err)
	}
	watch, err := watcher(t).Watch(id)
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile("/proc/" + strconv.Itoa(id.PID) + "/status")
	if err != nil || !strings.Contains(string(b), "Uid:\t1879048193\t1879048193\t1879048193\t1879048193\n") {
		t.Errorf("%s, %v", b, err)
	}
	var st unix.Stat_t
	if err := unix.Stat(log, &st); err != nil || st.Uid != o.UID || st.Mode&0o777 != 0o600 {
		t.Errorf("log %+v, %v", st, err)
	}
	if err := host.Signal(id, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	await(t, "end", watch.Gone)
}
