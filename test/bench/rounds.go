package main

import (
	"context"
	"fmt"
	"strings"
	"time"
)

// bootSamples are of boots, in seconds; disk in bytes.
type bootSamples struct {
	run, byHand  []float64
	ready, stock [3][]float64 // by number of virtual CPUs
	disk         []float64
}

// round boots each kind once.
func (b *bootSamples) round(ctx context.Context, in *installation, h *hand, n int) error {
	name := fmt.Sprintf("r%d", n)
	s, err := timed(func() error { return in.banger(ctx, "run", "-q", "--name", name, "--", "true") })
	if err != nil {
		return err
	}
	b.run = append(b.run, s)
	if err := in.banger(ctx, "vm", "delete", "-q", "--force", name); err != nil {
		return err
	}
	if s, err = h.boot(ctx, h.likeBanger(fmt.Sprintf("h%d", n))); err != nil {
		return err
	}
	b.byHand = append(b.byHand, s)
	for cpus := 1; cpus <= 2; cpus++ {
		if err := b.against(ctx, in, h, fmt.Sprintf("c%d-%d", cpus, n), cpus); err != nil {
			return err
		}
	}
	return nil
}

// against boots a VM of banger's and the stock image. banger's time begins with
// the command that starts it, before the launch.
func (b *bootSamples) against(ctx context.Context, in *installation, h *hand, name string, cpus int) error {
	if err := in.banger(ctx, "vm", "create", "-q", "--no-start", "--cpu", fmt.Sprint(cpus), "--name", name); err != nil {
		return err
	}
	disk, err := in.disk(ctx, name)
	if err != nil {
		return err
	}
	b.disk = append(b.disk, disk)
	s, err := timed(func() error {
		if err := in.banger(ctx, "vm", "start", "-q", name); err != nil {
			return err
		}
		return in.banger(ctx, "vm", "exec", name, "--", "true")
	})
	if err != nil {
		return err
	}
	b.ready[cpus] = append(b.ready[cpus], s)
	if err := in.banger(ctx, "vm", "delete", "-q", "--force", name); err != nil {
		return err
	}
	if s, err = h.boot(ctx, h.likeStock("s"+name, cpus)); err != nil {
		return err
	}
	b.stock[cpus] = append(b.stock[cpus], s)
	return nil
}

func (b *bootSamples) rows() []row {
	return []row{
		ratio("banger run -- true", b.run, "the same VM by a shell script, polled by ssh", b.byHand, 1.05),
		ratio("exec-ready, 1 vCPU", b.ready[1], "stock Debian, polled by ssh", b.stock[1], 0.25),
		ratio("exec-ready, 2 vCPUs", b.ready[2], "stock Debian, polled by ssh", b.stock[2], 0.35),
	}
}

// commands runs `true` in two VMs of one image, in turns: through banger, and by
// ssh(1) at the image's own sshd.
func commands(ctx context.Context, in *installation, h *hand, n int) (row, error) {
	const name = "execs"
	if err := in.banger(ctx, "run", "-q", "--name", name, "--", "true"); err != nil {
		return row{}, err
	}
	if err := in.banger(ctx, "vm", "wait", "-q", name, "--for", "booted"); err != nil {
		return row{}, err
	}
	v := h.likeBanger("sshd")
	if err := v.lay(h.stock.key); err != nil {
		return row{}, err
	}
	defer v.end()
	if err := v.run(ctx); err != nil {
		return row{}, err
	}
	if err := v.openSSHD(ctx, strings.TrimSpace(h.stock.pubKey)); err != nil {
		return row{}, err
	}
	var exec, ssh []float64
	for range n {
		s, err := timed(func() error { return in.banger(ctx, "vm", "exec", name, "--", "true") })
		if err != nil {
			return row{}, err
		}
		exec = append(exec, s)
		if s, err = timed(func() error { return v.ssh(ctx, v.sshd, "true") }); err != nil {
			return row{}, err
		}
		ssh = append(ssh, s)
	}
	if err := v.end(); err != nil {
		return row{}, err
	}
	if err := in.banger(ctx, "vm", "delete", "-q", "--force", name); err != nil {
		return row{}, err
	}
	return ratio("banger vm exec VM -- true", exec, "ssh(1) to the image's own sshd", ssh, 0.3), nil
}

// timed returns how long do took, seconds.
func timed(do func() error) (float64, error) {
	began := time.Now()
	err := do()
	return time.Since(began).Seconds(), err
}
