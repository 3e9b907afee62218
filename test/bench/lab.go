package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"banger/test/sandbox"
)

// labReport is what the child in the lab says.
type labReport struct {
	Kernel, Guest, Banger, Firecracker string
	Rows                               []row
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
	cmd := exec.CommandContext(ctx, filepath.Join(sandbox.Root(), "scripts", "lab"), "run", "--timeout", "90m",
		"--dir", filepath.Join(sandbox.Root(), "bin"), "--dir", sandbox.Runtime(), "--dir", tools,
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
	b.inside = &said
	return said.Rows, nil
}
