package launch

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"banger"
	"banger/internal/cli/streams"
)

const rootProgram = "banger-root"

// rootHome is where an installation keeps the copy that sudoers may name.
const rootHome = "/usr/local/lib/banger"

// RootFiles are what an administrator may have put on this host for banger-root, as
// the documentation says, and its log. None need be there.
func RootFiles() []string {
	return []string{filepath.Join(rootHome, rootProgram), "/etc/sudoers.d/banger", "/etc/banger/root.toml", "/var/log/banger-root.log", "/var/log/banger-root.log.1"}
}

// StartRoot starts banger-root for this user by sudo, and returns once it
// listens. why is what it is needed for, shown before sudo may ask for a
// password. Without a terminal nobody can be asked, and only a copy that none
// but root can change is started.
func (l *Launcher) StartRoot(ctx context.Context, why string) error {
	sudo, err := exec.LookPath("sudo")
	if err != nil {
		return banger.Errorf(banger.NeedsRoot, "%s, and there is no sudo to start %s with", why, rootProgram).
			WithRemedy("as root: SUDO_UID=%d %s", os.Getuid(), l.rootCopies()[0])
	}
	if l.IO.InTerm {
		return l.askRoot(ctx, sudo, why)
	}
	if path := l.rootsOwn(); path != "" {
		return l.demandRoot(ctx, sudo, path, why)
	}
	return banger.Errorf(banger.NeedsRoot, "%s, and without a terminal only a root-owned %s is started by sudo", why, rootProgram).
		WithRemedy("run in a terminal, once: sudo %s", l.rootCopies()[0])
}

// MayHaveRoot reports whether TryRoot is worth a try: there is a sudo, and a
// banger-root that none but root can change, which somebody has put there for that.
func (l *Launcher) MayHaveRoot() bool {
	_, err := exec.LookPath("sudo")
	return err == nil && os.Geteuid() != 0 && l.rootsOwn() != ""
}

// TryRoot starts banger-root for this user if sudo lets it without a question, and says
// so; why is what it is needed for.
func (l *Launcher) TryRoot(ctx context.Context, why string) error {
	sudo, err := exec.LookPath("sudo")
	if err != nil {
		return err
	}
	path := l.rootsOwn()
	if err := l.demandRoot(ctx, sudo, path, why); err != nil {
		return err
	}
	l.IO.Progress().Close()
	l.IO.Note("%s: sudo -n %s", why, path)
	return nil
}

// rootsOwn is the first copy of banger-root that none but root can change, "" if
// there is none.
func (l *Launcher) rootsOwn() string {
	for _, path := range l.rootCopies() {
		if rootOwned(path) == nil {
			return path
		}
	}
	return ""
}

// askRoot runs sudo on the terminal, where it may ask.
func (l *Launcher) askRoot(ctx context.Context, sudo, why string) error {
	path := l.rootCopies()[0]
	if _, err := os.Stat(path); err != nil {
		return banger.Errorf(banger.HostUnready, "%s: %w", why, err).WithRemedy("make build (%s lies beside banger)", rootProgram)
	}
	l.IO.Progress().Close()
	l.IO.Note("%s: sudo %s", why, path)
	cmd := exec.CommandContext(ctx, sudo, "--", path)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stderr, os.Stderr
	if err := cmd.Run(); err != nil {
		return banger.Errorf(banger.NeedsRoot, "start %s: %w", rootProgram, sudoFailure(ctx, err, nil)).WithRemedy("sudo %s", path)
	}
	return nil
}

// demandRoot runs sudo where nobody can be asked: it starts path or says why not.
func (l *Launcher) demandRoot(ctx context.Context, sudo, path, why string) error {
	var said bytes.Buffer
	cmd := exec.CommandContext(ctx, sudo, "-n", "--", path)
	cmd.Stderr = &said
	if err := cmd.Run(); err != nil {
		who := strconv.Itoa(os.Getuid())
		if u, err := user.Current(); err == nil {
			who = u.Username
		}
		return banger.Errorf(banger.NeedsRoot, "%s: start %s: %w", why, rootProgram, sudoFailure(ctx, err, said.Bytes())).
			WithRemedy("run in a terminal: sudo %[2]s; or for good, by visudo: %[1]s ALL=(root) NOPASSWD: %[2]s", who, path)
	}
	return nil
}

func sudoFailure(ctx context.Context, err error, said []byte) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if line := strings.TrimSpace(string(said)); line != "" {
		return errors.New(streams.Escape(line))
	}
	return err
}

// rootCopies are the places of banger-root, best first; none need be there. A
// checkout's own copy speaks this build's language; an installation keeps its
// in a directory of root's.
func (l *Launcher) rootCopies() []string {
	bin := filepath.Dir(l.Exe)
	all := []string{
		filepath.Join(bin, rootProgram),
		filepath.Join(filepath.Dir(bin), "lib", "banger", rootProgram),
		filepath.Join(rootHome, rootProgram),
	}
	for i, path := range all {
		if _, err := os.Stat(path); err == nil {
			return all[i:]
		}
	}
	return all
}

// rootOwned returns nil if nobody but root can change path, or put another file
// in its place.
func rootOwned(path string) error {
	path, err := filepath.EvalSymlinks(path)
	if err != nil {
		return err
	}
	for at := path; ; at = filepath.Dir(at) {
		fi, err := os.Lstat(at)
		if err != nil {
			return err
		}
		st, ok := fi.Sys().(*syscall.Stat_t)
		if !ok || st.Uid != 0 || fi.Mode().Perm()&0o022 != 0 {
			return fmt.Errorf("others than root can change %s", at)
		}
		if at == "/" {
			return nil
		}
	}
}
