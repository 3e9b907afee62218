package e2e

import (
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/creack/pty"

	"banger"
)

// The serial console: Return gets a root shell, a key leaves, the log has what
// was said, and the next one can attach.
func TestConsole(t *testing.T) {
	b := web(t)
	for _, word := range []string{"first", "second"} {
		cmd := b.Command(t.Context(), "vm", "console", "web")
		ptmx, err := pty.Start(cmd)
		if err != nil {
			t.Fatal(err)
		}
		say := func(keys string) {
			if _, err := ptmx.Write([]byte(keys)); err != nil {
				t.Fatal(err)
			}
		}
		readUntil(t, ptmx, "Ctrl-] leaves it")
		prompted := impatient(ptmx)
		readUntil(t, ptmx, "# ")
		prompted()
		if r := b.run("vm", "console", "web"); r.code != 4 || !strings.Contains(r.err, "somebody is attached") {
			t.Errorf("a second one: %+v", r)
		}
		say("echo $(id -un) on $(tty) $((40+2)) " + word + "\r")
		readUntil(t, ptmx, "root on /dev/ttyS0 42 "+word)
		say("\x1d")
		readUntil(t, ptmx, "left the console of web")
		if err := cmd.Wait(); err != nil {
			t.Error(err)
		}
		ptmx.Close()
		log, deadline := "", time.Now().Add(limit) // it is written after the screen
		for !strings.Contains(log, "root on /dev/ttyS0 42 "+word) {
			if log = b.ok("vm", "logs", "web"); time.Now().After(deadline) {
				t.Fatalf("the log ends: %q", log[max(0, len(log)-500):])
			}
		}
	}
}

// Who sits at a console stays there while the daemon is started again and while
// the guest reboots; when it powers off, that is told.
func TestConsoleGoesOn(t *testing.T) {
	b := fresh(t)
	b.boot("sits")
	b.booted("sits")
	s := b.sit("sits")
	s.says(t, "before")
	b.ok("daemon", "restart")
	readUntil(t, s, "going on with the console of sits")
	s.says(t, "under the next daemon")
	s.types(t, "reboot\r")
	readUntil(t, s, "sits was started again")
	s.says(t, "after the reboot")
	b.ok("vm", "wait", "sits", "--for", "booted", "--timeout", limit.String())
	s.types(t, "poweroff\r")
	readUntil(t, s, "sits has ended")
	if err := s.cmd.Wait(); err != nil {
		t.Error(err)
	}
	b.ok("vm", "wait", "sits", "--for", "stopped", "--timeout", limit.String())
	if e := b.show("sits").LastExit; e == nil || e.Cause != banger.ExitGuest {
		t.Errorf("it ended by %+v", e)
	}
}

// A sitter is somebody at the console of a VM.
type sitter struct {
	*os.File
	cmd *exec.Cmd
}

func (b box) sit(vm string) sitter {
	b.t.Helper()
	cmd := b.Command(b.t.Context(), "vm", "console", vm)
	ptmx, err := pty.Start(cmd)
	must(b.t, err)
	b.t.Cleanup(func() { ptmx.Close() })
	readUntil(b.t, ptmx, "Ctrl-] leaves it")
	return sitter{ptmx, cmd}
}

// says has the guest's shell say a word.
func (s sitter) says(t *testing.T, word string) {
	t.Helper()
	prompted := impatient(s)
	readUntil(t, s, "# ")
	prompted()
	s.types(t, "echo $((40+2)) "+word+"\r")
	readUntil(t, s, "42 "+word)
}

func (s sitter) types(t *testing.T, keys string) {
	t.Helper()
	_, err := s.WriteString(keys)
	must(t, err)
}

// impatient presses Return as people do, again and again until it is told to
// stop: what is typed before the guest listens is lost.
func impatient(tty io.Writer) (stop func()) {
	done := make(chan struct{})
	var pressing sync.WaitGroup
	pressing.Go(func() {
		again := time.NewTicker(time.Second)
		defer again.Stop()
		for {
			if _, err := tty.Write([]byte{'\r'}); err != nil {
				return
			}
			select {
			case <-again.C:
			case <-done:
				return
			}
		}
	})
	return func() { close(done); pressing.Wait() }
}
