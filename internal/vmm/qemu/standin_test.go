package qemu_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

const tool = "qemu-system-x86_64"

// TestMain is also the stand-in: the test binary under QEMU's name speaks QMP
// and boots nothing.
func TestMain(m *testing.M) {
	if filepath.Base(os.Args[0]) == tool {
		// Not os.Exit: the race detector's takes a second.
		syscall.Exit(standIn(os.Args[1:]))
	}
	goleak.VerifyTestMain(m)
}

// standIn does what the word standin= of the kernel's command line says.
func standIn(argv []string) int {
	if slices.Contains(argv, "--version") {
		fmt.Println("QEMU emulator version 0 (a \x1b[31mstand-in)\nand more")
		return 0
	}
	_, what, _ := strings.Cut(after(argv, "-append"), "standin=")
	what, _, _ = strings.Cut(what, " ")
	switch what {
	case "die":
		fmt.Fprint(os.Stderr, "first\nsecond \x1b[2J\nthird\n")
		return 3
	case "mute":
		// Not select {}: without another goroutine Go ends the program for it.
		unix.Pause()
	case "deaf":
		signal.Ignore(unix.SIGTERM)
	}
	path := strings.TrimSuffix(strings.TrimPrefix(after(argv, "-qmp"), "unix:"), ",server=on,wait=off")
	l, err := net.Listen("unix", strings.ReplaceAll(path, ",,", ","))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	status := "running"
	for { // one client at a time, as QEMU
		c, err := l.Accept()
		if err != nil {
			return 1
		}
		if over := converse(c, what, &status); over {
			return 0
		}
	}
}

// converse serves one client, and reports whether it was told to quit.
func converse(c net.Conn, what string, status *string) (over bool) {
	defer c.Close()
	say := func(format string, a ...any) { fmt.Fprintf(c, format+"\r\n", a...) }
	say(`{"QMP": {"version": {}, "capabilities": ["oob"]}}`)
	in := bufio.NewScanner(c)
	for in.Scan() {
		id := in.Text()[strings.LastIndex(in.Text(), ":")+1:]
		switch {
		case strings.Contains(in.Text(), `"qmp_capabilities"`):
			say(`{"return": {}, "id": %s`, id)
			if done := afterGreeting(c, what, status); done {
				return false
			}
		case strings.Contains(in.Text(), `"query-status"`):
			say(`{"return": {"status": %q}, "id": %s`, *status, id)
		case strings.Contains(in.Text(), `"system_powerdown"`):
			say(`{"error": {"class": "GenericError", "desc": "no \u001b[1m button"}, "id": %s`, id)
		case strings.Contains(in.Text(), `"cont"`):
			*status = "running"
			say(`{"event": "RESUME"}`)
			say(`{"return": {}, "id": %s`, id)
		case strings.Contains(in.Text(), `"quit"`):
			say(`{"event": "SHUTDOWN", "data": {"guest": false, "reason": "host-qmp-quit"}}`)
			say(`{"return": {}, "id": %s`, id)
			return true
		}
	}
	return false
}

// afterGreeting misbehaves, and reports whether the conversation is over.
func afterGreeting(c net.Conn, what string, status *string) bool {
	kind, arg, _ := strings.Cut(what, ":")
	switch kind {
	case "say": // the guest ends, and says why
		fmt.Fprintf(c, "{\"event\": \"STOP\"}\r\n{\"event\": \"SHUTDOWN\", \"data\": {\"reason\": %q}}\r\n", arg)
		*status = "shutdown"
	case "panic":
		fmt.Fprint(c, "{\"event\": \"GUEST_PANICKED\"}\r\n{\"event\": \"SHUTDOWN\", \"data\": {\"reason\": \"guest-shutdown\"}}\r\n")
	case "block": // a disk could not be written
		fmt.Fprintf(c, "{\"event\": \"BLOCK_IO_ERROR\", \"data\": {\"nospace\": true, \"action\": %q}}\r\n", arg)
		*status = map[string]string{"stop": "io-error", "report": "running"}[arg]
	case "status":
		*status = arg
	case "garbage":
		fmt.Fprint(c, "{]\r\n")
		io.Copy(io.Discard, c)
		return true
	case "endless":
		for {
			if _, err := c.Write(make([]byte, 64<<10)); err != nil {
				return true
			}
		}
	case "hangup", "deaf":
		return true
	}
	return false
}

func after(argv []string, option string) string {
	if i := slices.Index(argv, option); i >= 0 && i+1 < len(argv) {
		return argv[i+1]
	}
	return ""
}
