package launch_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"banger"
	"banger/internal/api"
	"banger/internal/cli/launch"
	"banger/internal/cli/streams"
	"banger/internal/layout"
)

// newLauncher returns a launcher of a new installation, whose bangerd is this
// test, and what it says.
func newLauncher(t *testing.T, env ...string) (*launch.Launcher, *bytes.Buffer) {
	t.Helper()
	dir, err := os.MkdirTemp("", "bl") // t.TempDir is too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil { // a root daemon's VMs must get through
		t.Fatal(err)
	}
	env = append(env, "BANGER_STATE_DIR="+dir+"/state", "BANGER_RUN_DIR="+dir+"/run", "HOME="+dir, fakeBuild+"=one", "SECRET=1")
	l, err := layout.Resolve(func(name string) string { return lookup(env, name) }, os.Geteuid())
	if err != nil {
		t.Fatal(err)
	}
	s, _, _, errs := streams.Test()
	la := &launch.Launcher{
		Layout: l, IO: s, Exe: filepath.Join(dir, "bin", "banger"), Build: "one",
		Environ: env, Patience: 20 * time.Second,
	}
	install(t, la, time.Now().Add(-time.Hour))
	t.Cleanup(func() {
		if lock, held, _ := api.ReadLock(l.Lock()); held && lock.PID > 0 {
			_ = syscall.Kill(lock.PID, syscall.SIGTERM)
			waitFree(t, l.Lock())
		}
	})
	return la, errs
}

func lookup(env []string, name string) string {
	for _, kv := range env {
		if v, ok := strings.CutPrefix(kv, name+"="); ok {
			return v
		}
	}
	return ""
}

// install puts this test beside the launcher as bangerd, last written at when.
func install(t *testing.T, l *launch.Launcher, when time.Time) {
	t.Helper()
	self, err := os.Open("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	defer self.Close()
	if err := os.MkdirAll(filepath.Dir(l.Exe), 0o755); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(filepath.Dir(l.Exe), "bangerd")
	_ = os.Remove(path)
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o755)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(f, self); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(path, when, when); err != nil {
		t.Fatal(err)
	}
}

func connect(t *testing.T, l *launch.Launcher) int {
	t.Helper()
	c, err := l.Connect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	s, err := c.DaemonStatus(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return s.PID
}

func TestConnectStartsOneDaemonOnly(t *testing.T) {
	l, _ := newLauncher(t)
	if _, _, err := l.Find(t.Context()); !errors.Is(err, launch.ErrNone) {
		t.Fatalf("found before it was started: %v", err)
	}
	left := filepath.Join(t.TempDir(), "left") // by a shell: not close-on-exec
	fd, err := unix.Open(left, unix.O_CREAT|unix.O_RDWR, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	pids := make([]int, 5)
	var wg sync.WaitGroup
	for i := range pids {
		wg.Go(func() {
			c, err := l.Connect(t.Context())
			if err != nil {
				t.Error(err)
				return
			}
			s, err := c.DaemonStatus(t.Context())
			if err != nil {
				t.Error(err)
			}
			pids[i] = s.PID
		})
	}
	wg.Wait()
	for _, p := range pids {
		if p == 0 || p != pids[0] {
			t.Fatalf("several daemons: %v", pids)
		}
	}
	proc := filepath.Join("/proc", strconv.Itoa(pids[0]))
	if sid := field(t, proc+"/stat", 6); sid != strconv.Itoa(pids[0]) {
		t.Errorf("daemon %d is in session %s: the terminal's end would reach it", pids[0], sid)
	}
	if cwd, _ := os.Readlink(proc + "/cwd"); cwd != "/" {
		t.Errorf("daemon holds %s", cwd)
	}
	fds, err := os.ReadDir(proc + "/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, fd := range fds {
		if to, _ := os.Readlink(proc + "/fd/" + fd.Name()); to == left {
			t.Errorf("daemon holds %s", to)
		}
	}
	environ, err := os.ReadFile(proc + "/environ")
	if err != nil || strings.Contains(string(environ), "SECRET") {
		t.Errorf("environment %q, %v", environ, err)
	}
	if err := l.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := l.Stop(t.Context()); !errors.Is(err, launch.ErrNone) {
		t.Errorf("stopped twice: %v", err)
	}
}

func TestConnectReplaces(t *testing.T) {
	l, said := newLauncher(t)
	old := connect(t, l)
	if again := connect(t, l); again != old {
		t.Fatalf("same build replaced: %d, %d", old, again)
	}
	l.Build = "two"
	if again := connect(t, l); again != old {
		t.Fatalf("replaced by a file that is not newer: %d, %d", old, again)
	}
	install(t, l, time.Now().Add(-time.Minute))
	l.Environ = append([]string{fakeBuild + "=two"}, l.Environ...)
	young := connect(t, l)
	if young == old {
		t.Error("an older build is kept")
	}
	l.Build = "one" // the other build, used in turn
	if again := connect(t, l); again != young {
		t.Errorf("two builds flap: %d, %d", young, again)
	}
	if said.Len() > 0 {
		t.Errorf("said %q", said)
	}
}

func TestConnectUsesABusyDaemon(t *testing.T) {
	l, said := newLauncher(t, behaviour+"="+isBusy)
	old := connect(t, l)
	l.Build = "two"
	install(t, l, time.Now())
	if again := connect(t, l); again != old {
		t.Errorf("a busy daemon was ended")
	}
	if want := "using the bangerd that runs (build one) until it is idle: a VM is being made\n"; said.String() != want {
		t.Errorf("said %q", said)
	}
}

// What a running daemon does not take from this environment is said.
func TestConnectTellsWhatIsIgnored(t *testing.T) {
	l, said := newLauncher(t)
	env := map[string]string{}
	l.IO.LookupEnv = func(name string) (string, bool) { v, ok := env[name]; return v, ok }
	connect(t, l)
	env["BANGER_LOG_LEVEL"], env["BANGER_CONFIG"] = "INFO", l.Layout.ConfigFile()
	connect(t, l)
	if said.Len() > 0 {
		t.Errorf("said %q of what the daemon uses", said)
	}
	env["BANGER_LOG_LEVEL"], env["BANGER_CONFIG"] = "debug", "/other.toml"
	connect(t, l)
	want := "the bangerd that runs does not use BANGER_CONFIG=/other.toml but " + l.Layout.ConfigFile() + ": banger daemon restart\n" +
		"the bangerd that runs does not use BANGER_LOG_LEVEL=debug but info: banger daemon restart\n"
	if said.String() != want {
		t.Errorf("said\n%swant\n%s", said, want)
	}
}

func TestConnectFails(t *testing.T) {
	for _, c := range []struct {
		name    string
		prepare func(*testing.T, *launch.Launcher)
		code    banger.Code
		message string
		remedy  string
	}{
		{"it says why", env(behaviour + "=" + dies), banger.HostUnready, `the daemon does not start: the database is \x1b newer than this build`, "use the newer one"},
		{"it says nothing", env(behaviour + "=" + diesSilent), banger.Internal, "ended before it answered: exit status 1", ""},
		{"it does not answer", func(t *testing.T, l *launch.Launcher) {
			l.Environ = append([]string{behaviour + "=" + neverListen}, l.Environ...)
			l.Patience = 500 * time.Millisecond
			t.Cleanup(func() { killDeaf(t, l) })
		}, banger.TimedOut, "bangerd has not answered within 500ms", "banger daemon logs"},
		{"there is none", func(t *testing.T, l *launch.Launcher) {
			t.Setenv("PATH", "")
			l.Exe = "/nowhere/banger"
		}, banger.HostUnready, "bangerd is neither beside /nowhere/banger nor in PATH", "make build"},
		{"it is not ours", func(t *testing.T, l *launch.Launcher) {
			if os.Geteuid() == 0 {
				if err := os.MkdirAll(l.Layout.State, 0o700); err != nil {
					t.Fatal(err)
				}
				if err := os.Chown(l.Layout.State, 65534, -1); err != nil {
					t.Fatal(err)
				}
				return
			}
			l.Layout.State = "/root" // anybody else's
		}, banger.HostUnready, "belongs to user ", "sudo -u "},
	} {
		t.Run(c.name, func(t *testing.T) {
			l, _ := newLauncher(t)
			c.prepare(t, l)
			_, err := l.Connect(t.Context())
			e := banger.AsError(err)
			if e == nil || e.Code != c.code || !strings.Contains(e.Message, c.message) || !strings.Contains(e.Remedy, c.remedy) {
				t.Errorf("got %+v", e)
			}
		})
	}
}

func env(kv string) func(*testing.T, *launch.Launcher) {
	return func(_ *testing.T, l *launch.Launcher) { l.Environ = append([]string{kv}, l.Environ...) }
}

// killDeaf ends a daemon that wrote no lock file: the one that runs our bangerd.
func killDeaf(t *testing.T, l *launch.Launcher) {
	t.Helper()
	mine := filepath.Join(filepath.Dir(l.Exe), "bangerd")
	links, err := filepath.Glob("/proc/[0-9]*/exe")
	if err != nil {
		t.Fatal(err)
	}
	for _, link := range links {
		if to, err := os.Readlink(link); err == nil && to == mine {
			pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(link)))
			_ = syscall.Kill(pid, syscall.SIGTERM)
		}
	}
	waitFree(t, l.Layout.Lock())
}

func waitFree(t *testing.T, lock string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		if _, held, _ := api.ReadLock(lock); !held {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatal("the daemon does not end")
		case <-tick.C:
		}
	}
}

// field is the nth field of /proc/PID/stat; the second has no blanks here.
func field(t *testing.T, path string, n int) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return strings.Fields(string(b))[n-1]
}

// A daemon that is just writing its lock file is found, though the file says
// nothing for that instant.
func TestFindWhileAnnounced(t *testing.T) {
	dir, err := os.MkdirTemp("", "bl")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	l := &launch.Launcher{Layout: layout.Layout{State: dir, Run: dir}, Patience: time.Minute}
	f, err := os.OpenFile(l.Layout.Lock(), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(dir, "s")
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	found := make(chan error, 1)
	go func() { _, _, err := l.Find(t.Context()); found <- err }()
	select {
	case err := <-found:
		t.Fatalf("before it is written: %v", err)
	case <-time.After(50 * time.Millisecond): // it looks, and looks again
	}
	if _, err := fmt.Fprintf(f, `{"pid":%d,"socket":%q}`, os.Getpid(), socket); err != nil {
		t.Fatal(err)
	}
	if err := <-found; err != nil {
		t.Error(err)
	}
}
