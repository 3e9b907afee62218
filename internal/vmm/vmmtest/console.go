package vmmtest

import (
	"bufio"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"banger/internal/vmm"
)

// testConsole attaches to a guest's console, once through the daemon that
// started it and once through the next. The log goes on beside it, also after it
// was cut.
func testConsole(t *testing.T, b Bench) {
	m := b.machine(t, "echo")
	p, err := b.New(t).Start(t.Context(), m, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := p.(vmm.Consoler); !ok {
		Kill(t, p)
		closeProcess(t, p)
		t.Skip("no console to attach to")
	}
	console(t, m.SerialLog, "vmmtest: up") // said while nobody was attached
	talk(t, p, "hello")
	console(t, m.SerialLog, "vmmtest: got hello")
	closeProcess(t, p)
	if err := os.Truncate(m.SerialLog, 0); err != nil {
		t.Fatal(err)
	}
	q := adopt(t, b.New(t), p.Handle())
	talk(t, q, "again")
	if said := console(t, m.SerialLog, "vmmtest: got again"); strings.Contains(said, "\x00") || strings.Contains(said, "hello") {
		t.Errorf("after it was cut the log holds %q", said)
	}
	Kill(t, q)
}

// talk attaches, says a word, waits for the guest's answer and detaches.
func talk(t *testing.T, p vmm.Process, word string) {
	t.Helper()
	conn, err := p.(vmm.Consoler).Console(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func(c net.Conn) {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}(conn)
	if err := conn.SetDeadline(time.Now().Add(limit)); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Write([]byte(word + "\n")); err != nil {
		t.Fatal(err)
	}
	in := bufio.NewScanner(conn)
	for in.Scan() {
		if strings.Contains(in.Text(), "vmmtest: got "+word) {
			return
		}
	}
	t.Fatalf("no answer on the console: %v", in.Err())
}
