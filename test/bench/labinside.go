package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"banger"
)

// labLooks are the flags of every VM in the lab.
var labLooks = []string{"--backend", "firecracker", "--cpu", "1", "--memory", "256MiB"}

const labBundle = "/lab/runtime"

// A labBench measures Firecracker where it runs: in the lab's machine, as an ordinary user
// who may sudo.
type labBench struct {
	dir   string // of the VMs by hand
	state string // banger's directory
	key   userKey
	model fcModel
	log   int64 // how much of the daemon's log has been read
	labSamples
}

// measureLab is the child.
func measureLab(ctx context.Context) (err error) {
	install := exec.CommandContext(ctx, "sudo", "-n", "sh", "-ec", `cd /lab/bin
install -m 755 banger bangerd banger-guest /usr/local/bin
install -D -m 755 banger-root /usr/local/lib/banger/banger-root
ln -s `+labBundle+` /usr/local/runtime`)
	if out, err := install.CombinedOutput(); err != nil {
		return fmt.Errorf("install: %w: %s", err, out)
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return err
	}
	l := &labBench{dir: filepath.Join(home, "hand"), state: filepath.Join(home, ".local/state/banger")}
	if err := l.takeKey(); err != nil {
		return err
	}
	progress("lab: registering the bundle")
	if err := l.learn(ctx); err != nil {
		return err
	}
	for i := range *boots {
		progress("lab: round %d of %d", i+1, *boots)
		for _, part := range []func(context.Context, int) error{l.starts, l.against} {
			if err := part(ctx, i); err != nil {
				return err
			}
		}
	}
	report := labReport{Machine: machine{Lab: "Linux " + read("/proc/sys/kernel/osrelease"), GuestKernel: l.model.release}, Rows: l.rows()}
	for _, said := range []struct {
		to   *string
		argv []string
	}{{&report.Machine.Banger, []string{"banger", "version"}}, {&report.Machine.Firecracker, []string{"firecracker", "--version"}}} {
		out, err := exec.CommandContext(ctx, said.argv[0], said.argv[1:]...).Output()
		if err != nil {
			return err
		}
		*said.to = firstLine(out)
	}
	return json.NewEncoder(os.Stdout).Encode(report)
}

// takeKey makes the key that the stock image lets in one that ssh(1) takes.
func (l *labBench) takeKey() error {
	if err := os.Mkdir(l.dir, 0o755); err != nil {
		return err
	}
	l.key.file = filepath.Join(l.dir, "key")
	public, err := os.ReadFile(filepath.Join(labStock, "key.pub"))
	if err != nil {
		return err
	}
	l.key.public = string(public)
	private, err := os.ReadFile(filepath.Join(labStock, "key"))
	if err != nil {
		return err
	}
	return os.WriteFile(l.key.file, private, 0o600)
}

// banger runs the program and returns what it wrote to stdout.
func (l *labBench) banger(ctx context.Context, args ...string) (string, error) {
	var stderr strings.Builder
	cmd := exec.CommandContext(ctx, "banger", args...)
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("banger %s: %w\n%s", strings.Join(args, " "), err, &stderr)
	}
	return strings.TrimSpace(string(out)), nil
}

// start is `banger run -- true` with a new VM.
func (l *labBench) start(ctx context.Context, name string) error {
	_, err := l.banger(ctx, append(append([]string{"run", "-q", "--name", name}, labLooks...), "--", "true")...)
	return err
}

// steps are how long each step of the last starts took, seconds, as the daemon's log has it.
func (l *labBench) steps() (map[string]float64, error) {
	b, err := os.ReadFile(filepath.Join(l.state, "daemon.log"))
	if err != nil {
		return nil, err
	}
	text := string(b[min(l.log, int64(len(b))):])
	l.log = int64(len(b))
	all := map[string]float64{}
	for line := range strings.Lines(text) {
		var said struct {
			Msg, Step string
			Elapsed   time.Duration
		}
		if err := json.Unmarshal([]byte(line), &said); err != nil {
			return nil, fmt.Errorf("the daemon's log: %w: %s", err, line)
		}
		if said.Msg == "step done" {
			all[said.Step] = said.Elapsed.Seconds()
		}
	}
	if all["attach disk"] == 0 || all["network"] == 0 {
		return nil, errors.New("the daemon's log tells of no start")
	}
	return all, nil
}

// blob is the installation's file of the bundle's artifact of a kind: of one disk with what
// banger reads.
func (l *labBench) blob(kind banger.ArtifactKind) (string, error) {
	text, err := os.ReadFile(filepath.Join(labBundle, banger.BundleManifest))
	if err != nil {
		return "", err
	}
	var m banger.Bundle
	if err := json.Unmarshal(text, &m); err != nil {
		return "", err
	}
	for _, a := range m.Artifacts {
		if a.Kind == kind {
			return filepath.Join(l.state, "blobs", a.SHA256), nil
		}
	}
	return "", fmt.Errorf("the bundle has no %s", kind)
}
