package e2e

import (
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/creack/pty"
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
