package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
)

// labSamples are of rounds in the lab, seconds and bytes.
type labSamples struct {
	run, byHand          []float64 // from the command to its end
	host, hostByHand     []float64 // disk and network
	attach, attachByHand []float64
	network, netByHand   []float64
	before, beforeByHand []float64 // from the command until the guest starts
	disk                 []float64
	memory, handMemory   []float64
	stop, stopByHand     []float64
	ready, stock         []float64
}

// round has one VM of banger's and one by hand, each in its turn.
func (l *labBench) round(ctx context.Context, n int) error {
	name := fmt.Sprintf("r%d", n)
	s, err := timed(func() error { return l.run(ctx, name) })
	if err != nil {
		return err
	}
	steps, err := l.steps()
	if err != nil {
		return err
	}
	l.labSamples.run = append(l.labSamples.run, s)
	l.attach, l.network = append(l.attach, steps["attach disk"]), append(l.network, steps["network"])
	l.host = append(l.host, steps["attach disk"]+steps["network"])
	l.before = append(l.before, s-steps["guest"])
	m, err := vmmMemory(ctx)
	if err != nil {
		return err
	}
	l.memory = append(l.memory, m)
	if _, err := l.banger(ctx, "vm", "delete", "-q", "--force", name); err != nil {
		return err
	}
	v, err := l.boot(ctx, name)
	if err != nil {
		return err
	}
	l.byHand = append(l.byHand, v.total)
	l.attachByHand, l.netByHand = append(l.attachByHand, v.disk), append(l.netByHand, v.net)
	l.hostByHand = append(l.hostByHand, v.disk+v.net)
	l.beforeByHand = append(l.beforeByHand, v.start)
	if m, err = vmmMemory(ctx); err != nil {
		return err
	}
	l.handMemory = append(l.handMemory, m)
	fmt.Fprintf(os.Stderr, "banger %.2f hand %.2f; before %.3f %.3f; attach %.3f %.3f net %.3f %.3f\n", s, v.total, s-steps["guest"], v.start, steps["attach disk"], v.disk, steps["network"], v.net)
	return v.end()
}

func (l *labBench) rows() []row {
	const hand = "the same by a shell script"
	return []row{
		ratio("banger run -- true on Firecracker", l.labSamples.run, "the same VM by a shell script with curl, polled by ssh", l.byHand, 1.05),
		ratio("disk and network of one start", l.host, hand+": losetup, dmsetup, ip, sysctl, nft", l.hostByHand, 0.5),
		ratio("of these the disk", l.attach, hand, l.attachByHand, 0),
		ratio("of these the network", l.network, hand, l.netByHand, 0),
		ratio("from the command until the guest starts", l.before, hand, l.beforeByHand, 0),
		amount("memory of the VMM beside the guest's (RSS)", l.memory, 0),
	}
}

// vmmMemory is what the one Firecracker that runs takes beside its guest's memory, bytes: the
// resident part of all mappings but the guest's, which is told by its size.
func vmmMemory(ctx context.Context) (float64, error) {
	pid, err := exec.CommandContext(ctx, "pgrep", "-x", "firecracker").Output()
	if err != nil {
		return 0, fmt.Errorf("look for the VMM: %w", err)
	}
	maps, err := exec.CommandContext(ctx, "sudo", "-n", "cat", "/proc/"+strings.TrimSpace(string(pid))+"/smaps").Output()
	if err != nil {
		return 0, err
	}
	var sum, size, rss float64
	for s := bufio.NewScanner(bytes.NewReader(maps)); s.Scan(); {
		var kib float64
		if n, _ := fmt.Sscanf(s.Text(), "Size: %f kB", &kib); n == 1 {
			size = kib
		}
		if n, _ := fmt.Sscanf(s.Text(), "Rss: %f kB", &rss); n == 1 && size != 256<<10 {
			sum += rss * 1024
		}
	}
	return sum, nil
}

// allocated is what a directory takes on the disk, bytes.
func allocated(dir string) (sum float64, err error) {
	return sum, filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		sum += float64(info.Sys().(*syscall.Stat_t).Blocks) * 512
		return nil
	})
}
