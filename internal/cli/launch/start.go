package launch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"banger"
)

// A daemon is one that we started.
type daemon struct {
	exe    string
	log    string
	offset int64 // of its first words in log
	done   chan struct{}
	err    error // how it ended, once done
	proc   *os.Process
}

// giveWay ends a daemon of ours that was slower than the one that runs, and
// returns when it has ended: it would wait for the lock, and take it as soon as
// the other one is stopped. What SIGTERM finds is not a daemon yet.
func (d *daemon) giveWay(ctx context.Context, pid int) {
	if d == nil || d.proc == nil || d.proc.Pid == pid {
		return
	}
	_ = d.proc.Signal(syscall.SIGTERM) // the one error is that it has ended
	select {
	case <-d.done:
	case <-ctx.Done():
	}
}

// candidate is the bangerd that this program would start.
func (l *Launcher) candidate() (string, error) {
	beside := filepath.Join(filepath.Dir(l.Exe), "bangerd")
	if _, err := os.Stat(beside); err == nil {
		return beside, nil
	}
	path, err := exec.LookPath("bangerd")
	if err != nil {
		return "", banger.Errorf(banger.HostUnready, "bangerd is neither beside %s nor in PATH", l.Exe).
			WithRemedy("build both: make build")
	}
	return filepath.EvalSymlinks(path)
}

// start starts bangerd in a session of its own, so that neither Ctrl-C nor the
// end of our terminal reaches it. It does not wait for anything.
func (l *Launcher) start() (*daemon, error) {
	exe, err := l.candidate()
	if err != nil {
		return nil, err
	}
	if err := l.Layout.Prepare(); err != nil {
		return nil, err
	}
	path := l.Layout.DaemonLog()
	log, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return nil, banger.Errorf(banger.HostUnready, "open the daemon's log: %w", err).
			WithRemedy("df -h %[1]s; ls -l %[1]s", path)
	}
	defer log.Close()
	d := &daemon{exe: exe, log: path, done: make(chan struct{})}
	if d.offset, err = log.Seek(0, io.SeekEnd); err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	cmd := exec.Command(exe)
	cmd.Dir = "/" // it must not keep a file system from being unmounted
	cmd.Env = kept(l.Environ)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	// What our caller left open, perhaps a lock or the pipe that somebody reads to
	// its end, is not to last as long as the daemon does.
	if err := unix.CloseRange(3, math.MaxUint32, unix.CLOSE_RANGE_CLOEXEC); err != nil && !errors.Is(err, unix.ENOSYS) && !errors.Is(err, unix.EINVAL) {
		return nil, fmt.Errorf("keep inherited descriptors: %w", err) // else older than Linux 5.11
	}
	if err := cmd.Start(); err != nil {
		return nil, banger.Errorf(banger.HostUnready, "start the daemon: %w", err).WithRemedy("ls -l %s", exe)
	}
	d.proc = cmd.Process
	go func() { // a shell in a VM may outlive the daemon: it is not to stay a zombie
		d.err = cmd.Wait()
		close(d.done)
	}()
	return d, nil
}

// keep are the variables that mean something to a daemon; a name that ends in
// _ stands for all that begin with it. The rest (SSH_AUTH_SOCK, a terminal's,
// a virtual environment's) is the caller's and may be gone tomorrow.
var keep = []string{
	"PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LC_", "TZ", "TMPDIR",
	"BANGER_", "XDG_", "GOCOVERDIR", "GORACE", "GODEBUG",
	"http_proxy", "https_proxy", "ftp_proxy", "no_proxy", "all_proxy",
	"HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY",
}

func kept(environ []string) []string {
	var env []string
	for _, kv := range environ {
		name, _, _ := strings.Cut(kv, "=")
		for _, k := range keep {
			if name == k || strings.HasSuffix(k, "_") && strings.HasPrefix(name, k) {
				env = append(env, kv)
				break
			}
		}
	}
	return env
}

func (d *daemon) ended() bool {
	select {
	case <-d.done:
		return true
	default:
		return false
	}
}

// failure is what is known of a daemon that ended before it answered.
func (d *daemon) failure() error {
	e := lastWords(d.log, d.offset)
	if e == nil {
		e = banger.Errorf(banger.Internal, "%s ended before it answered: %v", d.exe, d.err)
	}
	var exit *exec.ExitError
	if errors.As(d.err, &exit) && codes[exit.ExitCode()] != "" {
		e.Code = codes[exit.ExitCode()]
	}
	return e.WithLog(d.log)
}
