package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"banger/internal/vmlinux"
	"banger/test/sandbox"
)

// labReport is what the child in the lab says.
type labReport struct {
	Machine machine
	Rows    []row
}

// lab measures Firecracker in the lab's machine (docs/lab.md): a bench of its own there,
// without cgo, does it, and reports on its stdout.
func (b *bench) lab(ctx context.Context) (rows []row, err error) {
	dir, err := os.MkdirTemp("/tmp", "banger-bench-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	tools := filepath.Join(dir, "bench")
	if err := os.Mkdir(tools, 0o755); err != nil {
		return nil, err
	}
	build := exec.CommandContext(ctx, filepath.Join(sandbox.Root(), "scripts", "go"), "build", "-o", tools, "./test/bench")
	build.Dir, build.Env = sandbox.Root(), append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("build the bench: %w\n%s", err, out)
	}
	for _, script := range []string{"fcbyhand.sh", "netbyhand.sh"} {
		text, err := os.ReadFile(filepath.Join(sandbox.Root(), "test", "bench", script))
		if err != nil {
			return nil, err
		}
		if err := os.WriteFile(filepath.Join(tools, script), text, 0o755); err != nil {
			return nil, err
		}
	}
	stock, err := b.labStock(ctx, dir)
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, filepath.Join(sandbox.Root(), "scripts", "lab"), "run", "--timeout", "90m",
		"--dir", filepath.Join(sandbox.Root(), "bin"), "--dir", sandbox.Runtime(), "--dir", tools, "--dir", stock,
		"/lab/bench/bench", "-child", "lab", "-boots", fmt.Sprint(b.boots))
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, err
	}
	var said labReport
	if err := json.Unmarshal(out, &said); err != nil {
		return nil, fmt.Errorf("%w: %s", err, out)
	}
	b.inside = &said.Machine
	return said.Rows, nil
}

// labStock is the stock image with what boots it on Firecracker, and with the key that it
// lets in.
func (b *bench) labStock(ctx context.Context, dir string) (string, error) {
	key, err := prepareKey(ctx, b.cache)
	if err != nil {
		return "", err
	}
	cached := filepath.Join(b.cache, "stock-lab")
	stock, err := prepareStock(ctx, cached, key, handAddress+"/20", handGateway)
	if err != nil {
		return "", err
	}
	out := filepath.Join(dir, "stock")
	if err := os.Mkdir(out, 0o755); err != nil {
		return "", err
	}
	bzImage, err := os.Open(stock.kernel)
	if err != nil {
		return "", err
	}
	defer bzImage.Close()
	st, err := bzImage.Stat()
	if err == nil {
		err = vmlinux.Extract(filepath.Join(out, "vmlinux"), bzImage, st.Size())
	}
	if err == nil {
		err = os.Chmod(filepath.Join(out, "vmlinux"), 0o644)
	}
	files := []string{stock.disk, stock.initrd, filepath.Join(cached, "host.pub"), key.file, key.file + ".pub"}
	if said, cerr := exec.CommandContext(ctx, "cp", append(append([]string{"--sparse=always"}, files...), out)...).CombinedOutput(); cerr != nil {
		err = errors.Join(err, fmt.Errorf("%w: %s", cerr, said))
	}
	return out, errors.Join(err, os.Chmod(filepath.Join(out, "key"), 0o644)) // read by another user
}
