// Package tracked tests scripts/tracked, which keeps what is built out of git.
package tracked

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// at is content with the magic at an offset.
func at(offset int, magic string) string { return strings.Repeat("\x00", offset) + magic + "rest" }

var built = map[string]string{
	"program.txt":     "\x7fELF\x02\x01\x01",
	"notes.md":        at(0x202, "HdrS"), // bzImage
	"data/initrd":     "070701" + strings.Repeat("0", 104),
	"initrd.gz":       "\x1f\x8b\x08\x00",
	"initrd.zst":      "\x28\xb5\x2f\xfd",
	"initrd.xz":       "\xfd7zXZ\x00",
	"initrd.lz4":      "\x02\x21\x4c\x18",
	"disk":            "QFI\xfb\x00\x00\x00\x03",
	"modules.image":   "hsqs",
	"root.image":      at(1080, "\x53\xef"), // ext4
	"boot.image":      at(510, "\x55\xaa"),
	"runtime/a.txt":   "harmless",
	"name with blank": "\x7fELF",
}

var sources = map[string]string{
	"main.go":      "package main\n",
	"picture.svg":  "<svg xmlns='http://www.w3.org/2000/svg'/>\n",
	"empty":        "",
	"runtime.go":   "package runtime\n",
	"a/runtime/go": "a directory of that name elsewhere\n",
}

func tracked(t *testing.T, files map[string]string) (string, error) {
	t.Helper()
	dir := t.TempDir()
	for name, content := range files {
		file := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, args := range [][]string{{"init", "-q"}, {"add", "-A"}} {
		if out, err := exec.Command("git", append([]string{"-C", dir}, args...)...).CombinedOutput(); err != nil {
			t.Fatalf("git %v: %v\n%s", args, err, out)
		}
	}
	out, err := exec.Command("../../scripts/tracked", dir).CombinedOutput()
	return string(out), err
}

func TestSourcesPass(t *testing.T) {
	if out, err := tracked(t, sources); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

func TestEachIsFound(t *testing.T) {
	out, err := tracked(t, built)
	if err == nil {
		t.Error("nothing was found")
	}
	for name := range built {
		if !strings.Contains(out, ": "+name+": ") {
			t.Errorf("%s was not found:\n%s", name, out)
		}
	}
	for name, content := range built {
		if _, err := tracked(t, map[string]string{name: content}); err == nil {
			t.Errorf("%s alone passes", name)
		}
	}
}
