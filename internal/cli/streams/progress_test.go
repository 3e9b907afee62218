package streams_test

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"banger/internal/cli/streams"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func play(p *streams.Progress) {
	p.Begin("root disk")
	p.End("root disk", 120*time.Millisecond)
	p.Begin("guest\x1b")
	p.At("guest\x1b", 1, 4)
	p.Note("a %s", "note")
	p.End("guest\x1b", 83*time.Second)
	p.Begin("never done")
	p.Close()
}

func TestProgressElsewhere(t *testing.T) {
	s, _, out, errs := streams.Test()
	play(s.Progress())
	if want := "root disk 0.1s\na note\nguest\\x1b 1m23s\n"; errs.String() != want {
		t.Errorf("got %q, want %q", errs.String(), want)
	}
	if out.Len() > 0 {
		t.Errorf("on stdout: %q", out.String())
	}
}

func TestProgressQuiet(t *testing.T) {
	s, _, _, errs := streams.Test()
	s.Quiet, s.ErrTerm = true, true
	play(s.Progress())
	if errs.Len() > 0 {
		t.Errorf("got %q", errs.String())
	}
}

func TestProgressOnATerminal(t *testing.T) {
	s, _, _, errs := streams.Test()
	s.ErrTerm = true
	s.LookupEnv = func(name string) (string, bool) { return "1", name == "NO_COLOR" }
	play(s.Progress())
	if got, want := screen(errs), "✓ root disk 0.1s\na note\n✓ guest\\x1b 1m23s\n"; got != want {
		t.Errorf("left on the screen: %q, want %q", got, want)
	}
	if strings.Contains(errs.String(), "\x1b[3") {
		t.Errorf("colour in spite of NO_COLOR: %q", errs.String())
	}
	if !strings.Contains(errs.String(), "[#####...............]  25%") {
		t.Errorf("no bar: %q", errs.String())
	}
}

// screen is what a terminal shows in the end.
func screen(b *bytes.Buffer) string {
	lines := strings.Split(b.String(), "\n")
	for i, l := range lines {
		if at := strings.LastIndex(l, "\r\x1b[K"); at >= 0 {
			lines[i] = l[at+len("\r\x1b[K"):]
		}
	}
	return strings.Join(lines, "\n")
}
