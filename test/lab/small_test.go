package main

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"banger"
	"banger/test/sandbox"
)

// smallBundle makes a bundle of the real kernel and initramfs, and of an image that is a
// shell and little else: to read a whole Debian once takes minutes where every
// instruction of a hash is emulated.
func smallBundle(dir string) error {
	text, err := os.ReadFile(filepath.Join(sandbox.Runtime(), banger.BundleManifest))
	if err != nil {
		return err
	}
	var m banger.Bundle
	if err := json.Unmarshal(text, &m); err != nil {
		return err
	}
	for i := range m.Artifacts {
		a := &m.Artifacts[i]
		file := filepath.Join(dir, a.File)
		switch a.Kind {
		case banger.KindModules:
			err = smallModules(file)
		case banger.KindImage:
			a.Name, a.OS, a.File = "busybox", "busybox", "busybox.ext4"
			file = filepath.Join(dir, a.File)
			err = busyboxImage(file)
		default:
			err = tool("cp", filepath.Join(sandbox.Runtime(), a.File), file)
		}
		if err != nil {
			return err
		}
		content, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		a.Size, a.SHA256 = int64(len(content)), fmt.Sprintf("%x", sha256.Sum256(content))
	}
	if text, err = json.Marshal(m); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, banger.BundleManifest), text, 0o644)
}

// busyboxImage makes an image that has a shell, and an init that does nothing.
func busyboxImage(file string) error {
	busybox, err := exec.LookPath("busybox")
	if err != nil {
		return fmt.Errorf("%w (apt install busybox-static)", err)
	}
	root, err := os.MkdirTemp("", "banger-lab-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(root)
	for _, d := range []string{"bin", "sbin", "etc", "root", "tmp", "proc", "sys", "dev", "run", "var"} {
		if err := os.Mkdir(filepath.Join(root, d), 0o755); err != nil {
			return err
		}
	}
	if err := tool("cp", "-L", busybox, filepath.Join(root, "bin", "busybox")); err != nil {
		return err
	}
	names, err := exec.Command(busybox, "--list").Output()
	if err != nil {
		return err
	}
	for _, name := range strings.Fields(string(names)) {
		if name == "busybox" {
			continue
		}
		if err := os.Symlink("busybox", filepath.Join(root, "bin", name)); err != nil {
			return err
		}
	}
	if err := os.Symlink("../bin/busybox", filepath.Join(root, "sbin", "init")); err != nil {
		return err
	}
	for name, text := range map[string]string{
		"passwd":  "root::0:0::/root:/bin/sh\n",
		"inittab": "::respawn:/bin/sleep 3600\n",
	} {
		if err := os.WriteFile(filepath.Join(root, "etc", name), []byte(text), 0o644); err != nil {
			return err
		}
	}
	return tool("mke2fs", "-q", "-t", "ext4", "-E", "root_owner=0:0", "-d", root, file, "16M")
}

func tool(name string, args ...string) error {
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", name, err, out)
	}
	return nil
}
