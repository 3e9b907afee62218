package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"banger/test/sandbox"
)

// A stockImage is a Debian that knows nothing of banger.
type stockImage struct {
	disk, kernel, initrd string
	hostKey              string // its sshd's, public
}

// A userKey lets the bench into what it starts.
type userKey struct{ file, public string }

// prepareKey makes a key in dir, unless one is there.
func prepareKey(ctx context.Context, dir string) (userKey, error) {
	k := userKey{file: filepath.Join(dir, "key")}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return k, err
	}
	if _, err := os.Stat(k.file); err != nil {
		if out, err := exec.CommandContext(ctx, "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "bench", "-f", k.file).CombinedOutput(); err != nil {
			return k, fmt.Errorf("make a key: %w: %s", err, out)
		}
	}
	text, err := os.ReadFile(k.file + ".pub")
	k.public = string(text)
	return k, err
}

// prepareStock makes the stock image in a directory, unless one is there. It lets key in, and
// has QEMU's usual address unless it is given an address and a gateway.
func prepareStock(ctx context.Context, image string, key userKey, addresses ...string) (stockImage, error) {
	s := stockImage{disk: filepath.Join(image, "disk.ext4"), kernel: filepath.Join(image, "vmlinuz"), initrd: filepath.Join(image, "initrd.img")}
	if _, err := os.Stat(s.disk); err != nil {
		progress("building the stock image (once)")
		if out, err := exec.CommandContext(ctx, filepath.Join(sandbox.Root(), "test", "bench", "stock.sh"), append([]string{image, key.file + ".pub"}, addresses...)...).CombinedOutput(); err != nil {
			return s, fmt.Errorf("build the stock image: %w\n%s", err, out)
		}
	}
	text, err := os.ReadFile(filepath.Join(image, "host.pub"))
	s.hostKey = string(text)
	return s, err
}
