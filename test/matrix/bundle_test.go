package matrix

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"banger"
)

// imageName is the image of bundleOfNothing.
const imageName = "nothing"

// bundleOfNothing makes a bundle with the default kernel and initramfs of from,
// no more modules, and an image with a shell and nothing else: all that happens
// in the guest is the kernel's and the guest program's.
func bundleOfNothing(dir, from string) error {
	text, err := os.ReadFile(filepath.Join(from, banger.BundleManifest))
	if err != nil {
		return fmt.Errorf("read the default bundle: %w (banger bundle build)", err)
	}
	var b banger.Bundle
	if err := json.Unmarshal(text, &b); err != nil {
		return err
	}
	for i := range b.Artifacts {
		a := &b.Artifacts[i]
		file := filepath.Join(dir, a.File)
		switch a.Kind {
		case banger.KindModules:
			err = tool("mke2fs", "-q", "-t", "ext4", file, "1M")
		case banger.KindImage:
			a.Name, a.OS = imageName, imageName
			err = emptyImage(file)
		default:
			err = tool("cp", "--reflink=auto", filepath.Join(from, a.File), file)
		}
		if err != nil {
			return err
		}
		content, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		sum := sha256.Sum256(content)
		a.Size, a.SHA256 = int64(len(content)), hex.EncodeToString(sum[:])
	}
	if text, err = json.Marshal(b); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, banger.BundleManifest), text, 0o644)
}

func emptyImage(file string) error {
	busybox, err := exec.LookPath("busybox")
	if err != nil {
		return fmt.Errorf("%w (apt install busybox-static)", err)
	}
	root, err := os.MkdirTemp("", "bm-root-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(root)
	for _, d := range []string{"bin", "etc", "root", "tmp"} {
		if err := os.Mkdir(filepath.Join(root, d), 0o755); err != nil {
			return err
		}
	}
	if err := tool("cp", "-L", busybox, filepath.Join(root, "bin", "busybox")); err != nil {
		return err
	}
	for _, name := range []string{"sh", "sleep", "poweroff", "reboot"} {
		if err := os.Symlink("busybox", filepath.Join(root, "bin", name)); err != nil {
			return err
		}
	}
	if err := os.WriteFile(filepath.Join(root, "etc", "passwd"), []byte("root::0:0::/root:/bin/sh\n"), 0o644); err != nil {
		return err
	}
	return tool("mke2fs", "-q", "-t", "ext4", "-E", "root_owner=0:0", "-d", root, file, "8M")
}
