package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

	"banger/test/sandbox"
)

// An installation is one of banger, of the bench's own.
type installation struct{ sandbox *sandbox.Sandbox }

func install() (*installation, error) {
	s, err := sandbox.Make()
	if err != nil {
		return nil, err
	}
	s.Set("BANGER_LOG_LEVEL", "info")    // as a user's
	s.Set("BANGER_NETWORK_USER", "qemu") // what is done by hand is one QEMU, and nothing beside it
	return &installation{s}, nil
}

// needBundle builds the default bundle if there is none.
func needBundle(ctx context.Context) (err error) {
	if _, err := os.Stat(filepath.Join(sandbox.Runtime(), "bundle.json")); err == nil {
		return nil
	}
	in, err := install()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, in.sandbox.Close()) }()
	return in.banger(ctx, "bundle", "build", "--output", sandbox.Runtime())
}

// banger runs the program.
func (in *installation) banger(ctx context.Context, args ...string) error {
	_, err := in.output(ctx, args...)
	return err
}

func (in *installation) output(ctx context.Context, args ...string) ([]byte, error) {
	var stderr bytes.Buffer
	cmd := in.sandbox.Command(ctx, args...)
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("banger %s: %w\n%s", strings.Join(args, " "), err, &stderr)
	}
	return out, nil
}

// A vm is what the bench reads of `vm show`.
type vm struct {
	PID         int    `json:"pid"`
	Accelerator string `json:"accelerator"`
	Disk        int64  `json:"disk_bytes"`
	WorkDisk    int64  `json:"work_disk_bytes"`
	SerialLog   string `json:"serial_log"`
}

func (in *installation) show(ctx context.Context, name string) (vm, error) {
	var v vm
	out, err := in.output(ctx, "vm", "show", name, "-o", "json")
	if err != nil {
		return v, err
	}
	return v, json.Unmarshal(out, &v)
}

// learn starts a VM, reads how banger started it and deletes it.
func (in *installation) learn(ctx context.Context) (*model, error) {
	const name = "model"
	if err := in.banger(ctx, "run", "-q", "--name", name, "--", "true"); err != nil {
		return nil, err
	}
	v, err := in.show(ctx, name)
	if err != nil {
		return nil, err
	}
	argv, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", v.PID))
	if err != nil {
		return nil, err
	}
	m, err := newModel(strings.Split(strings.TrimSuffix(string(argv), "\x00"), "\x00"), filepath.Dir(v.SerialLog))
	if err != nil {
		return nil, err
	}
	m.diskSize, m.workSize, m.accelerator = v.Disk, v.WorkDisk, v.Accelerator
	m.guest = filepath.Join(in.sandbox.Bin, "banger-guest")
	if m.release, err = in.output(ctx, "vm", "exec", name, "--", "uname", "-r"); err != nil {
		return nil, err
	}
	out, err := exec.CommandContext(ctx, "qemu-img", "info", "-U", "--output=json", filepath.Join(m.dir, "disk.qcow2")).Output()
	if err != nil {
		return nil, fmt.Errorf("look at the model's disk: %w", err)
	}
	var disk struct {
		Base string `json:"full-backing-filename"`
	}
	if err := json.Unmarshal(out, &disk); err != nil {
		return nil, err
	}
	m.base = disk.Base
	return m, in.banger(ctx, "vm", "delete", "-q", "--force", name)
}

// disk is what a VM's directory takes on the disk, bytes.
func (in *installation) disk(ctx context.Context, name string) (float64, error) {
	v, err := in.show(ctx, name)
	if err != nil {
		return 0, err
	}
	var sum int64
	err = filepath.WalkDir(filepath.Dir(v.SerialLog), func(_ string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		sum += info.Sys().(*syscall.Stat_t).Blocks * 512
		return nil
	})
	return float64(sum), err
}

// usage is a process's memory, bytes.
type usage struct{ rss, pss float64 }

// memory is the daemon's; it is started if there is none.
func (in *installation) memory(ctx context.Context) (usage, error) {
	if err := in.banger(ctx, "daemon", "start", "-q"); err != nil {
		return usage{}, err
	}
	lock, _, err := in.sandbox.Lock()
	if err != nil {
		return usage{}, err
	}
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", lock.PID))
	if err != nil {
		return usage{}, err
	}
	var u usage
	for line := range strings.Lines(string(text)) {
		var kib float64
		if n, _ := fmt.Sscanf(line, "Rss: %f kB", &kib); n == 1 {
			u.rss = kib * 1024
		}
		if n, _ := fmt.Sscanf(line, "Pss: %f kB", &kib); n == 1 {
			u.pss = kib * 1024
		}
	}
	return u, nil
}
