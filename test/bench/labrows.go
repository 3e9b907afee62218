package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
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
	disk, memory         []float64
	stop, stopByHand     []float64
	ready, stock         []float64
}

// stops is how many rounds have their VMs stopped in order: their guests have to come up first.
const stops = 2

// starts has one VM of banger's and one by hand, each in its turn.
func (l *labBench) starts(ctx context.Context, n int) error {
	name := fmt.Sprintf("r%d", n)
	s, err := timed(func() error { return l.start(ctx, name) })
	if err != nil {
		return err
	}
	steps, err := l.steps()
	if err != nil {
		return err
	}
	l.run = append(l.run, s)
	l.attach, l.network = append(l.attach, steps["attach disk"]), append(l.network, steps["network"])
	l.host = append(l.host, steps["attach disk"]+steps["network"])
	l.before = append(l.before, s-steps["guest"])
	m, err := vmmMemory(ctx)
	if err != nil {
		return err
	}
	l.memory = append(l.memory, m)
	if n < stops {
		if _, err := l.banger(ctx, "vm", "wait", "-q", name, "--for", "booted"); err != nil {
			return err
		}
		s, err := timed(func() error { _, err := l.banger(ctx, "vm", "stop", "-q", "--timeout", "5m", name); return err })
		if err != nil {
			return err
		}
		l.stop = append(l.stop, s)
	}
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
	progress("lab: run %.1f s, by hand %.1f s; until the guest %.2f, %.2f; disk %.3f, %.3f; network %.3f, %.3f",
		last(l.run), v.total, last(l.before), v.start, last(l.attach), v.disk, last(l.network), v.net)
	if n < stops {
		s, err := v.stop()
		if err != nil {
			return errors.Join(err, v.end())
		}
		l.stopByHand = append(l.stopByHand, s)
		progress("lab: stop %.1f s, by hand %.1f s", last(l.stop), s)
	}
	return v.end()
}

// against boots a VM of banger's that is made already, and the stock image.
func (l *labBench) against(ctx context.Context, n int) error {
	name := fmt.Sprintf("s%d", n)
	if _, err := l.banger(ctx, append([]string{"vm", "create", "-q", "--no-start", "--name", name}, labLooks...)...); err != nil {
		return err
	}
	made, err := l.show(ctx, name)
	if err != nil {
		return err
	}
	disk, err := allocated(filepath.Dir(made.SerialLog))
	if err != nil {
		return err
	}
	l.disk = append(l.disk, disk)
	s, err := timed(func() error {
		if _, err := l.banger(ctx, "vm", "start", "-q", name); err != nil {
			return err
		}
		_, err := l.banger(ctx, "vm", "exec", name, "--", "true")
		return err
	})
	if err != nil {
		return err
	}
	l.ready = append(l.ready, s)
	if _, err := l.banger(ctx, "vm", "delete", "-q", "--force", name); err != nil {
		return err
	}
	v, err := l.bootStock(ctx, name)
	if err != nil {
		return err
	}
	l.stock = append(l.stock, v.total)
	progress("lab: exec-ready %.1f s, stock %.1f s", s, v.total)
	return v.end()
}

func last(s []float64) float64 { return s[len(s)-1] }

func (l *labBench) rows() []row {
	const hand = "the same by a shell script"
	return []row{
		ratio("banger run -- true on Firecracker", l.run, "the same VM by a shell script with curl, polled by ssh", l.byHand, 1.05),
		ratio("disk and network of one start", l.host, hand+": losetup, dmsetup, ip, sysctl, nft", l.hostByHand, 0.5),
		ratio("of these the disk", l.attach, hand, l.attachByHand, 0),
		ratio("of these the network", l.network, hand, l.netByHand, 0),
		ratio("from the command until the guest starts", l.before, hand, l.beforeByHand, 0),
		amount("disk of a new VM before its first boot", l.disk, 1<<20),
		amount("memory of the VMM beside its guest's (RSS)", l.memory, 0),
		ratio("banger vm stop, of a guest that has come up", l.stop, "poweroff by ssh, and all taken away by a shell script", l.stopByHand, 0),
		ratio("exec-ready, 1 vCPU, on Firecracker", l.ready, "stock Debian on Firecracker, polled by ssh", l.stock, 0.35),
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
