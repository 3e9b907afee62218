package daemon_test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"go.uber.org/goleak"

	"banger"
	"banger/internal/daemon"
)

// dialArg makes the test binary a client: it connects to the socket and prints
// what it was told.
const dialArg = "BANGER_TEST_DIAL"

func TestMain(m *testing.M) {
	if path := os.Getenv(dialArg); path != "" {
		c, err := net.Dial("unix", path)
		if err != nil {
			fmt.Println("refused:", err)
			os.Exit(0)
		}
		b, err := io.ReadAll(c)
		fmt.Printf("told %q, %v\n", b, err)
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

// serve answers hello to every connection that it gets.
func serve(t *testing.T, l net.Listener) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			io.WriteString(c, "hello")
			c.Close()
		}
	}()
	t.Cleanup(func() {
		l.Close()
		<-done
	})
}

func hello(path string) error {
	c, err := net.Dial("unix", path)
	if err != nil {
		return err
	}
	defer c.Close()
	b, err := io.ReadAll(c)
	if err == nil && string(b) != "hello" {
		err = fmt.Errorf("got %q", b)
	}
	return err
}

// shortDir is a directory whose sockets have short paths.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "bd")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func TestSocketIsMadeAgain(t *testing.T) {
	path := filepath.Join(shortDir(t), "run", "s")
	prepare := func() error { return os.MkdirAll(filepath.Dir(path), 0o700) }
	if err := prepare(); err != nil {
		t.Fatal(err)
	}
	l, mend, err := daemon.Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	serve(t, l)
	if err := hello(path); err != nil {
		t.Fatal(err)
	}
	if st, err := os.Stat(path); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", st.Mode(), err)
	}
	if err := os.RemoveAll(filepath.Dir(path)); err != nil { // as a logout does
		t.Fatal(err)
	}
	if err := mend(prepare); err != nil {
		t.Fatal(err)
	}
	if err := hello(path); err != nil {
		t.Errorf("after it was made again: %v", err)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("left behind: %v", err)
	}
}

func TestSocketOfAnotherDaemon(t *testing.T) {
	path := filepath.Join(shortDir(t), "s")
	l, _, err := daemon.Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	serve(t, l)
	_, _, err = daemon.Listen(path)
	if e := banger.AsError(err); e == nil || e.Code != banger.Exists || e.Remedy == "" {
		t.Errorf("a second listener: %+v", e)
	}
	if err := hello(path); err != nil {
		t.Errorf("the first one: %v", err)
	}
}

// Another user gets no answer, even where the file's mode lets him connect.
func TestSocketOtherUser(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: connects as another user")
	}
	dir := shortDir(t)
	path := filepath.Join(dir, "s")
	l, _, err := daemon.Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	serve(t, l)
	self := filepath.Join(dir, "self")
	exe, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	for name, err := range map[string]error{
		"copy": os.WriteFile(self, exe, 0o755), "dir": os.Chmod(dir, 0o755), "socket": os.Chmod(path, 0o666),
	} {
		if err != nil {
			t.Fatal(name, err)
		}
	}
	dial := func(uid uint32) string {
		cmd := exec.Command(self)
		cmd.Env = []string{dialArg + "=" + path}
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		return string(out)
	}
	if got := dial(65534); strings.Contains(got, "hello") {
		t.Errorf("another user: %s", got)
	}
	if got := dial(0); !strings.Contains(got, "hello") {
		t.Errorf("the daemon's own user: %s", got)
	}
}

// A daemon whose lock file has gone has lost its state directory; one that
// another holds is not its own.
func TestWhereTheLockIs(t *testing.T) {
	for name, c := range map[string]struct {
		to   func(dir string) error
		want string
	}{
		"nothing":           {func(string) error { return nil }, "at home"},
		"the file deleted":  {func(dir string) error { return os.Remove(filepath.Join(dir, "l")) }, "deleted"},
		"all deleted":       {os.RemoveAll, "deleted"},
		"moved":             {func(dir string) error { return os.Rename(dir, dir+".moved") }, "moved"},
		"replaced":          {func(dir string) error { return replaced(filepath.Join(dir, "l")) }, "deleted"},
		"a file in the way": {func(dir string) error { return errors.Join(os.RemoveAll(dir), os.WriteFile(dir, nil, 0o600)) }, "deleted"},
	} {
		dir := filepath.Join(t.TempDir(), "state")
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		lock, err := daemon.TakeLock(filepath.Join(dir, "l"))
		if err != nil {
			t.Fatal(err)
		}
		defer lock.Close()
		if err := c.to(dir); err != nil {
			t.Fatal(err)
		}
		if got := daemon.PlaceOf(lock, filepath.Join(dir, "l")); got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
}

func replaced(path string) error {
	return errors.Join(os.Remove(path), os.WriteFile(path, nil, 0o600))
}

func TestOneDaemonPerStateDirectory(t *testing.T) {
	path := filepath.Join(t.TempDir(), "daemon.lock")
	first, err := daemon.TakeLock(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := daemon.TakeLock(path); banger.CodeOf(err) != banger.Exists {
		t.Errorf("a second daemon: %v", err)
	}
	if _, err := first.WriteString(`{"pid": 1}`); err != nil { // it announces itself
		t.Fatal(err)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	again, err := daemon.TakeLock(path)
	if err != nil {
		t.Fatalf("after the first one ended: %v", err)
	}
	if b, err := os.ReadFile(path); err != nil || len(b) > 0 {
		t.Errorf("the new one's lock still tells of the old one: %q, %v", b, err)
	}
	again.Close()
}
