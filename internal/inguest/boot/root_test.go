package boot_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"banger/internal/inguest/boot"
)

func TestSuperblock(t *testing.T) {
	const mke2fs = "/sbin/mke2fs"
	if _, err := os.Stat(mke2fs); err != nil {
		t.Skip("e2fsprogs is not installed")
	}
	for _, args := range []string{"-b 1024", "-b 4096", "-b 4096 -O 64bit", "-b 2048 -O ^64bit"} {
		file := filepath.Join(t.TempDir(), "disk")
		cmd := exec.Command(mke2fs, append(strings.Fields("-q -F -t ext4 "+args), file, "8M")...)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		disk, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if size, err := boot.FileSystemSize(disk[:2048]); err != nil || size != 8<<20 {
			t.Errorf("%s: %d bytes, %v", args, size, err)
		}
	}
}

func TestNotExt4(t *testing.T) {
	file := filepath.Join(t.TempDir(), "disk")
	if err := os.WriteFile(file, make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := boot.MountRoot(file); !errors.Is(err, boot.ErrNotExt4) {
		t.Errorf("error %v", err)
	}
}

func FuzzSuperblock(f *testing.F) {
	disk := make([]byte, 2048)
	disk[1024+0x38], disk[1024+0x39] = 0x53, 0xEF
	f.Add(disk)
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, disk []byte) {
		if _, err := boot.FileSystemSize(disk); err != nil && !errors.Is(err, boot.ErrNotExt4) {
			t.Error(err)
		}
	})
}

func TestModulesList(t *testing.T) {
	root := machine(t, map[string]string{"banger/modules": "\n", "banger/release": "6.1.0-test\n"})
	if release, err := boot.LoadModules(root); err != nil || release != "6.1.0-test" {
		t.Errorf("%q, %v", release, err)
	}
	for name, text := range map[string]string{"missing": "banger/nosuch.ko\n", "no module": "banger/release\n"} {
		root := machine(t, map[string]string{"banger/modules": text, "banger/release": "6.1.0-test\n"})
		if _, err := boot.LoadModules(root); err == nil || !strings.Contains(err.Error(), "load kernel module banger/") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
