package host_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"banger"
	"banger/internal/host"
)

func TestCutLog(t *testing.T) {
	const limit = 256 << 10
	path := filepath.Join(t.TempDir(), "log")
	w, err := host.OpenLog(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	say := func(s string) {
		t.Helper()
		if _, err := w.WriteString(s); err != nil {
			t.Fatal(err)
		}
	}
	cut := func() []byte {
		t.Helper()
		if err := host.CutLog(path, limit); err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	say("short\n")
	if b := cut(); string(b) != "short\n" {
		t.Errorf("a short one became %q", b)
	}
	say(strings.Repeat("0123456789abcde\n", 3*limit/16) + "last\n")
	b := cut()
	if len(b) > limit || len(b) < limit/2 || !bytes.HasSuffix(b, []byte("abcde\nlast\n")) {
		t.Errorf("%d bytes are left, ending in %q", len(b), b[max(0, len(b)-20):])
	}
	say("after\n") // the writer goes on at the end
	if again := cut(); !bytes.Equal(again, append(b, "after\n"...)) {
		t.Errorf("%d bytes became %d", len(b), len(again))
	}
}

// What a log's directory's owner may have put in its place.
func TestLogTraps(t *testing.T) {
	dir := t.TempDir()
	victim := filepath.Join(dir, "victim")
	write(t, victim, strings.Repeat("x", 100), 0o600)
	link, fifo := filepath.Join(dir, "link"), filepath.Join(dir, "fifo")
	if err := os.Symlink(victim, link); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{link, fifo, dir} {
		if f, err := host.OpenLog(path, nil); err == nil {
			f.Close()
			t.Errorf("%s was opened", path)
		}
		if err := host.CutLog(path, 10); err == nil && path != fifo {
			t.Errorf("%s was cut", path)
		}
	}
	if st, err := os.Stat(victim); err != nil || st.Size() != 100 {
		t.Error(st, err)
	}
}

func TestLogIsNotGivenAway(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: gives a file to another user")
	}
	dir := t.TempDir()
	owned, hard := filepath.Join(dir, "owned"), filepath.Join(dir, "hard")
	write(t, owned, "", 0o600)
	if err := os.Link(owned, hard); err != nil {
		t.Fatal(err)
	}
	if f, err := host.OpenLog(hard, &banger.Owner{UID: 0x70000001, GID: 0x70000001}); err == nil {
		f.Close()
		t.Error("a file of ours with two names was given away")
	}
	var st unix.Stat_t
	if err := unix.Stat(owned, &st); err != nil || st.Uid != 0 {
		t.Error(st.Uid, err)
	}
}

func TestEscape(t *testing.T) {
	for in, want := range map[string]string{
		"plain\ttext\r\n": "plain\ttext",
		"\x1b[2J\x07":     `\x1b[2J\x07`,
		"ünï":             "ünï",
		"\xff\xc2\x9b":    `\xff\xc2\x9b`,
		"a\u202eb\u2066":  `a\xe2\x80\xaeb\xe2\x81\xa6`,
		"":                "",
		"a\nb":            `a\x0ab`,
	} {
		if got := host.Escape(in); got != want {
			t.Errorf("%q became %q, want %q", in, got, want)
		}
	}
}

// A VM's user owns the directory: what else has a name elsewhere is not cut.
func TestCutLogOfAnotherName(t *testing.T) {
	dir := t.TempDir()
	path, log := filepath.Join(dir, "precious"), filepath.Join(dir, "serial.log")
	if err := errors.Join(os.WriteFile(path, make([]byte, 1<<20), 0o600), os.Link(path, log)); err != nil {
		t.Fatal(err)
	}
	if err := host.CutLog(log, 4<<10); err == nil {
		t.Error("a file of two names was cut")
	}
	if st, err := os.Stat(path); err != nil || st.Size() != 1<<20 {
		t.Errorf("%v, %v", st, err)
	}
}
