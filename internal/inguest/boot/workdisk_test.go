package boot_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"banger/internal/inguest/boot"
)

// A disk is known by its file system's UUID, wherever it is.
func TestFindDisk(t *testing.T) {
	mke2fs, err := exec.LookPath("mke2fs")
	if err != nil {
		t.Skip("e2fsprogs is not installed")
	}
	dir := t.TempDir()
	uuids := map[string]string{
		"vda": "11111111-1111-4111-8111-111111111111", "vdc": "22222222-2222-4222-8222-222222222222", "vdd": "33333333-3333-4333-8333-333333333333",
	}
	for name, uuid := range uuids {
		if out, err := exec.Command(mke2fs, "-q", "-t", "ext4", "-U", uuid, filepath.Join(dir, name), "8M").CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	for name, text := range map[string]string{"vdb": strings.Repeat("no file system ", 1000), "vde": ""} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for name, uuid := range uuids {
		if got, err := boot.FindDisk(filepath.Join(dir, "vdc"), uuid); err != nil || filepath.Base(got) != name {
			t.Errorf("%s: %s, %v", name, got, err)
		}
	}
	for _, none := range []string{"44444444-4444-4444-8444-444444444444", "", "rubbish"} {
		if got, err := boot.FindDisk(filepath.Join(dir, "vdc"), none); err == nil {
			t.Errorf("%q: %s", none, got)
		}
	}
	if err := boot.MountWorkDisk(""); err != nil { // a VM without one
		t.Error(err)
	}
}
