package e2e

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"banger"
	"banger/test/sandbox"
)

// littleSize is the size of the image of littleBundle.
const littleSize = 16 << 20

// bundleWith makes a bundle below dir with the default kernel, initramfs and
// modules, and an image of its own that fill makes.
func bundleWith(t *testing.T, dir, name string, fill func(file string)) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(sandbox.Runtime(), banger.BundleManifest))
	if err != nil {
		t.Fatalf("read the default bundle: %v (banger bundle build)", err)
	}
	var b banger.Bundle
	if err := json.Unmarshal(text, &b); err != nil {
		t.Fatal(err)
	}
	made := filepath.Join(dir, name)
	if err := os.MkdirAll(made, 0o755); err != nil {
		t.Fatal(err)
	}
	for i, a := range b.Artifacts {
		file := filepath.Join(made, a.File)
		if a.Kind == banger.KindImage {
			b.Artifacts[i].Name, b.Artifacts[i].File, b.Artifacts[i].OS = name, name+".ext4", name
			file = filepath.Join(made, name+".ext4")
			fill(file)
			b.Artifacts[i].Size, b.Artifacts[i].SHA256 = digest(t, file)
			continue
		}
		command(t, "cp", "--sparse=always", "--reflink=auto", filepath.Join(sandbox.Runtime(), a.File), file)
	}
	text, err = json.Marshal(b)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(made, banger.BundleManifest), text, 0o644); err != nil {
		t.Fatal(err)
	}
	return made
}

func digest(t *testing.T, file string) (int64, string) {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	h := sha256.New()
	n, err := io.Copy(h, f)
	if err != nil {
		t.Fatal(err)
	}
	return n, hex.EncodeToString(h.Sum(nil))
}

func command(t *testing.T, name string, args ...string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Env = append(os.Environ(), "PATH="+os.Getenv("PATH")+":/usr/sbin:/sbin")
	if filepath.Base(name) == name {
		if p, err := exec.LookPath(name); err == nil {
			cmd.Path, cmd.Err = p, nil
		} else {
			cmd.Path, cmd.Err = filepath.Join("/usr/sbin", name), nil
		}
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s %q: %v\n%s", name, args, err, out)
	}
}

// littleBundle has an image that is a file system with nothing in it.
func littleBundle(t *testing.T, dir string) string {
	t.Helper()
	return bundleWith(t, dir, "little", func(file string) {
		empty := t.TempDir()
		command(t, "mke2fs", "-q", "-t", "ext4", "-d", empty, file, "16M")
	})
}
