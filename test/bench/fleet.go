package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
)

const (
	some      = 4 // VMs at once
	idleFor   = time.Minute
	clockTick = 100.0 // per second: USER_HZ, in /proc/PID/stat
)

// fleet measures what several VMs cost: made at once, running idle.
func (b *bench) fleet(ctx context.Context) ([]row, error) {
	in, rounds := b.in, min(b.boots, 3)
	before, err := in.memory(ctx)
	if err != nil {
		return nil, err
	}
	var together, inARow []float64
	var idle row
	var perVM float64
	for i := range rounds {
		progress("%d VMs, round %d of %d", some, i+1, rounds)
		s, err := timed(func() error { return createSome(ctx, in, some) })
		if err != nil {
			return nil, err
		}
		together = append(together, s)
		if i == 0 {
			if perVM, idle, err = in.whileIdle(ctx, before); err != nil {
				return nil, err
			}
		}
		if err := in.banger(ctx, "vm", "delete", "-q", "--force", "--all"); err != nil {
			return nil, err
		}
		if s, err = timed(func() error { return createSome(ctx, in, 1) }); err != nil {
			return nil, err
		}
		inARow = append(inARow, s)
		if err := in.banger(ctx, "vm", "delete", "-q", "--force", "--all"); err != nil {
			return nil, err
		}
	}
	return []row{
		ratio("4 creates at once", together, "the same in a row", inARow, 0.7),
		amount("daemon's memory per running VM (RSS)", []float64{perVM}, 0.3*(1<<20)),
		idle,
	}, nil
}

// createSome makes some VMs, so many at a time.
func createSome(ctx context.Context, in *installation, atATime int) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(atATime)
	for i := range some {
		g.Go(func() error { return in.banger(ctx, "vm", "create", "-q", "--name", fmt.Sprintf("f%d", i)) })
	}
	return g.Wait()
}

// whileIdle is what the daemon takes while VMs run that nobody does anything
// with: memory per VM beyond before, and time of a CPU, percent.
func (in *installation) whileIdle(ctx context.Context, before usage) (perVM float64, cpu row, err error) {
	for i := range some {
		if err := in.banger(ctx, "vm", "wait", "-q", fmt.Sprintf("f%d", i), "--for", "booted"); err != nil {
			return 0, row{}, err
		}
	}
	now, err := in.memory(ctx)
	if err != nil {
		return 0, row{}, err
	}
	progress("idle, for %s", idleFor)
	began, err := in.cpuTime()
	if err != nil {
		return 0, row{}, err
	}
	select {
	case <-time.After(idleFor):
	case <-ctx.Done():
		return 0, row{}, ctx.Err()
	}
	ended, err := in.cpuTime()
	if err != nil {
		return 0, row{}, err
	}
	cpu = amount("daemon's CPU while 4 VMs idle", []float64{100 * (ended - began) / idleFor.Seconds()}, 0.2)
	cpu.Unit = "percent"
	return max(0, now.rss-before.rss) / some, cpu, nil
}

// cpuTime is what the daemon has used so far, seconds.
func (in *installation) cpuTime() (float64, error) {
	lock, _, err := in.sandbox.Lock()
	if err != nil {
		return 0, err
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", lock.PID))
	if err != nil {
		return 0, err
	}
	f := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:])) // from field 3 on
	if len(f) < 13 {
		return 0, fmt.Errorf("read the daemon's CPU time: %q", stat)
	}
	user, err1 := strconv.ParseFloat(f[11], 64)
	system, err2 := strconv.ParseFloat(f[12], 64)
	if err1 != nil || err2 != nil {
		return 0, fmt.Errorf("read the daemon's CPU time: %q", stat)
	}
	return (user + system) / clockTick, nil
}
