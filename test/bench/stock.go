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
	key, pubKey          string // file of the private key that it lets in; the public one
}

// prepareStock makes the stock image in dir, unless one is there.
func prepareStock(ctx context.Context, dir string) (stockImage, error) {
	image := filepath.Join(dir, "stock")
	s := stockImage{
		disk: filepath.Join(image, "disk.ext4"), kernel: filepath.Join(image, "vmlinuz"), initrd: filepath.Join(image, "initrd.img"),
		key: filepath.Join(dir, "key"),
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return s, err
	}
	if _, err := os.Stat(s.key); err != nil {
		if out, err := exec.CommandContext(ctx, "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "bench", "-f", s.key).CombinedOutput(); err != nil {
			return s, fmt.Errorf("make a key: %w: %s", err, out)
		}
	}
	if _, err := os.Stat(s.disk); err != nil {
		progress("building the stock image (once)")
		if out, err := exec.CommandContext(ctx, filepath.Join(sandbox.Root(), "test", "bench", "stock.sh"), image, s.key+".pub").CombinedOutput(); err != nil {
			return s, fmt.Errorf("build the stock image: %w\n%s", err, out)
		}
	}
	for file, to := range map[string]*string{s.key + ".pub": &s.pubKey, filepath.Join(image, "host.pub"): &s.hostKey} {
		text, err := os.ReadFile(file)
		if err != nil {
			return s, err
		}
		*to = string(text)
	}
	return s, nil
}
