package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// bootSamples are of boots, in seconds; disk in bytes.
type bootSamples struct {
	run, byHand  []float64
	ready, stock [3][]float64 // by number of virtual CPUs
	disk         []float64
}

// bootsOfEachKind boots VMs of banger's and others in turns.
func (b *bench) bootsOfEachKind(ctx context.Context) ([]row, error) {
	stock, err := prepareStock(ctx, filepath.Join(b.cache, "stock"), b.hand.key)
	if err != nil {
		return nil, err
	}
	b.hand.stock = stock
	s := bootSamples{}
	for i := range b.boots {
		progress("boots, round %d of %d", i+1, b.boots)
		if err := s.round(ctx, b.in, b.hand, i); err != nil {
			return nil, err
		}
	}
	return s.rows(), nil
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
	s, err := in.execReady(ctx, name)
	if err != nil {
		return err
	}
	b.ready[cpus] = append(b.ready[cpus], s)
	if s, err = h.boot(ctx, h.likeStock("s"+name, cpus)); err != nil {
		return err
	}
	b.stock[cpus] = append(b.stock[cpus], s)
	return nil
}

// execReady starts a stopped VM, runs a command in it and deletes it; it returns
// how long the first two took, seconds.
func (in *installation) execReady(ctx context.Context, name string) (float64, error) {
	s, err := timed(func() error {
		if err := in.banger(ctx, "vm", "start", "-q", name); err != nil {
			return err
		}
		return in.banger(ctx, "vm", "exec", name, "--", "true")
	})
	if err != nil {
		return 0, err
	}
	return s, in.banger(ctx, "vm", "delete", "-q", "--force", name)
}

func (b *bootSamples) rows() []row {
	return []row{
		ratio("banger run -- true", b.run, "the same VM by a shell script, polled by ssh", b.byHand, 1.05),
		ratio("exec-ready, 1 vCPU", b.ready[1], "stock Debian, polled by ssh", b.stock[1], 0.25),
		ratio("exec-ready, 2 vCPUs", b.ready[2], "stock Debian, polled by ssh", b.stock[2], 0.35),
		amount("disk of a new VM before its first boot", b.disk, 1<<20),
	}
}

// commands runs `true` in two VMs of one image, in turns: through banger, and by
// ssh(1) at the image's own sshd.
func (b *bench) commands(ctx context.Context) ([]row, error) {
	progress("commands")
	const name = "execs"
	v, end, err := b.pair(ctx, name)
	if err != nil {
		return nil, err
	}
	defer end()
	var exec, ssh []float64
	for range b.execs {
		s, err := timed(func() error { return b.in.banger(ctx, "vm", "exec", name, "--", "true") })
		if err != nil {
			return nil, err
		}
		exec = append(exec, s)
		if s, err = timed(func() error { return v.ssh(ctx, v.sshd, "true") }); err != nil {
			return nil, err
		}
		ssh = append(ssh, s)
	}
	return []row{ratio("banger vm exec VM -- true", exec, "ssh(1) to the image's own sshd", ssh, 0.3)}, end()
}

// pair boots two VMs that are alike: one of banger's that is called name, and
// one by hand whose own sshd lets the key in. end ends both; it may be called
// again.
func (b *bench) pair(ctx context.Context, name string) (v *handVM, end func() error, err error) {
	v = b.hand.likeBanger(name)
	end = sync.OnceValue(func() error {
		return errors.Join(v.end(), b.in.banger(context.WithoutCancel(ctx), "vm", "delete", "-q", "--force", name))
	})
	defer func() {
		if err != nil {
			err = errors.Join(err, end())
		}
	}()
	if err := b.in.banger(ctx, "run", "-q", "--name", name, "--", "true"); err != nil {
		return nil, nil, err
	}
	if err := b.in.banger(ctx, "vm", "wait", "-q", name, "--for", "booted"); err != nil {
		return nil, nil, err
	}
	if err := v.lay(b.hand.key.file); err != nil {
		return nil, nil, err
	}
	if err := v.run(ctx); err != nil {
		return nil, nil, err
	}
	return v, end, v.openSSHD(ctx, strings.TrimSpace(b.hand.key.public))
}

// timed returns how long do took, seconds.
func timed(do func() error) (float64, error) {
	began := time.Now()
	err := do()
	return time.Since(began).Seconds(), err
}
