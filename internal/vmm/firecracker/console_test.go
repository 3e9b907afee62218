package firecracker_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"banger/internal/vmm/firecracker"
)

func TestIsHalted(t *testing.T) {
	for said, want := range map[string]bool{
		"[    9.123456] reboot: Power down\n":                              true,
		"x\n[    9.123456] reboot: System halted":                          true,
		"[1.0] reboot: Power off not available: System halted instead\n\n": true,
		"reboot: Power down\n":                                             true,
		"[    9.123456] reboot: Power down\nmore\n":                        false,
		"[    9.123456] reboot: Restarting system\n":                       false,
		"root@web:~# echo '[ 9.1] reboot: Power down'\n":                   false,
		"": false,
		"[    9.123456] reboot: Power downtown\n": false,
	} {
		if got := firecracker.IsHalted(said); got != want {
			t.Errorf("%q: %v", said, got)
		}
	}
}

// What a run's guest has said is what follows its line, or all that is left.
func TestConsoleOf(t *testing.T) {
	path := filepath.Join(t.TempDir(), "serial.log")
	said := func() string { return firecracker.ConsoleOf(path, "bb", 64) }
	if got := said(); got != "" {
		t.Errorf("without a log: %q", got)
	}
	put := func(text string) {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	put("old\n" + firecracker.Beginning("bb") + "\nnew\r\n")
	if got := said(); got != "new\n" {
		t.Errorf("got %q", got)
	}
	put("old\n" + firecracker.Beginning("bb") + "\n" + strings.Repeat("y", 64))
	if got := said(); got != strings.Repeat("y", 64) {
		t.Errorf("cut: %q", got)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/etc/passwd", path); err != nil {
		t.Fatal(err)
	}
	if got := said(); got != "" {
		t.Errorf("a link was followed: %q", got)
	}
}

func FuzzConsole(f *testing.F) {
	f.Add("[    9.123456] reboot: Power down\n", "00112233445566aa")
	f.Fuzz(func(t *testing.T, said, launch string) {
		if firecracker.IsHalted(said) && !strings.Contains(said, "reboot: ") {
			t.Errorf("%q", said)
		}
		firecracker.HowEnded(firecracker.End{}, said, launch, false, false)
	})
}

// A log that its writer does not append to keeps its size and its end.
func TestCutFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "firecracker.log")
	if err := firecracker.CutFile(path, 1<<20); err != nil {
		t.Errorf("without a log: %v", err)
	}
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteString(strings.Repeat("x", 4<<20) + "end"); err != nil {
		t.Fatal(err)
	}
	if err := firecracker.CutFile(path, 1<<20); err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString("more"); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if len(b) != 4<<20+len("endmore") || !strings.HasSuffix(string(b), "xendmore") || b[0] != 0 {
		t.Errorf("%d bytes, begins with %q", len(b), b[0])
	}
	if used := blocks(t, path); used > 1<<20 {
		t.Errorf("%d bytes on disk", used)
	}
	if err := os.Link(path, path+"2"); err != nil {
		t.Fatal(err)
	}
	if err := firecracker.CutFile(path, 1); err == nil {
		t.Error("a file of two names was cut")
	}
}
