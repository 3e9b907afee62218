package vm_test

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"banger"
	"banger/internal/vm"
)

// A VMM that was taken over owns its VM's directory: what it puts in the place
// of a log is neither followed nor waited for, and keeps nobody from deleting
// the VM.
func TestHostileLogs(t *testing.T) {
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, plant := range map[string]func(path string) error{
		"link":      func(p string) error { return os.Symlink(secret, p) },
		"FIFO":      func(p string) error { return unix.Mkfifo(p, 0o600) },
		"directory": func(p string) error { return os.Mkdir(p, 0o700) },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			m := w.manager(nil)
			create(t, m)
			v, err := m.Show(t.Context(), "web")
			if err != nil {
				t.Fatal(err)
			}
			for _, path := range []string{v.SerialLog, v.VMMLog} {
				if err := plant(path); err != nil {
					t.Fatal(err)
				}
				if f, err := vm.OpenLog(path); err == nil {
					f.Close()
					t.Errorf("%s was opened", path)
				}
			}
			w.only(t).end(banger.Exit{Cause: banger.ExitUnknown, Detail: "it was taken over"})
			settled(t, m) // reads what the guest said last
			if _, err := m.Delete(t.Context(), "web", false, quiet{}); err != nil {
				t.Error(err)
			}
			if b, err := os.ReadFile(secret); err != nil || string(b) != "secret" {
				t.Errorf("the link's target: %q, %v", b, err)
			}
		})
	}
}
