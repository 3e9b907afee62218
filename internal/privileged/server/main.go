// Package server is banger-root: one process per uid, which does what the
// requests of package privileged ask for, for that uid alone. It reads no
// argument, and of the environment SUDO_UID. It remembers nothing: what it made
// is found by what is written on it. It starts no program but itself, once.
package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"

	"banger"
	"banger/internal/blockdev"
	"banger/internal/network/link"
	"banger/internal/privileged"
)

// Where things are; tests have a /run of their own.
const (
	kvmDevice  = "/dev/kvm"
	policyFile = "/etc/banger/root.toml"
	logPath    = "/var/log/banger-root.log"
)

// resolvs name the host's resolvers; the second has those behind resolved's stub.
var resolvs = []string{"/etc/resolv.conf", "/run/systemd/resolve/resolv.conf"}

// Main is banger-root. It returns an exit code: 0 as soon as a banger-root of
// this uid listens, whether this is the one that started it or not.
func Main(stdout, stderr io.Writer) int {
	if err := run(stdout); err != nil {
		e := banger.AsError(err)
		fmt.Fprintln(stderr, "banger-root: "+e.Message)
		if e.Remedy != "" {
			fmt.Fprintln(stderr, e.Remedy)
		}
		return e.Code.Exit()
	}
	return 0
}

func run(stdout io.Writer) error {
	unix.Umask(0o177)
	uid, err := whose()
	if err != nil {
		return err
	}
	if l := inherited(uid); l != nil {
		return serve(uid, l)
	}
	if err := allow(policyFile, uid, privileged.Request{}); err != nil {
		return err
	}
	lock, err := claim(uid)
	if err != nil {
		return err
	}
	if lock == nil {
		fmt.Fprintf(stdout, "banger-root runs already for uid %d\n", uid)
		return nil
	}
	defer lock.Close()
	l, err := listen(uid)
	if err != nil {
		return err
	}
	defer l.Close()
	pid, err := detach(uid, lock, l)
	if err == nil {
		fmt.Fprintf(stdout, "banger-root runs for uid %d (process %d)\n", uid, pid)
	}
	return err
}

// serve is the detached process's life.
func serve(uid uint32, l listener) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	s := &server{uid: uid, router: link.New(uid, resolvs...), bus: systemBus, disks: blockdev.New(uid, privileged.RunDir), kvm: kvmDevice, policy: policyFile, log: newLog(logPath), idle: idleTime, mute: muteTime}
	_ = os.WriteFile("/proc/self/comm", []byte("banger-root"), 0) // what top shows: it would be "exe"
	if err := ownScope(ctx, systemBus, uid); err != nil {
		s.log.Info("no scope of its own", "err", err)
	}
	return errors.Join(s.serve(ctx, l), os.Remove(privileged.SocketPath(uid)))
}

// whose says which user this process is for: the one who ran sudo, or root if
// root started it. A program that was made setuid says nobody.
func whose() (uint32, error) {
	if unix.Getuid() != 0 || unix.Geteuid() != 0 {
		return 0, banger.Errorf(banger.NeedsRoot, "this runs as root, not as uid %d", unix.Getuid()).WithRemedy("sudo %s", os.Args[0])
	}
	if s, ok := os.LookupEnv("SUDO_UID"); ok {
		n, err := strconv.ParseUint(s, 10, 32)
		if err != nil || n == 1<<32-1 || strconv.FormatUint(n, 10) != s {
			return 0, banger.Errorf(banger.Invalid, "SUDO_UID %q is no uid", s)
		}
		return uint32(n), nil
	}
	var parent unix.Stat_t
	if err := unix.Stat(fmt.Sprintf("/proc/%d", unix.Getppid()), &parent); err == nil && parent.Uid == 0 {
		return 0, nil
	}
	return 0, banger.Errorf(banger.Invalid, "neither sudo nor root started this: whom is it for?").WithRemedy("sudo %s", os.Args[0])
}
