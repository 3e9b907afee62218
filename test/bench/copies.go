package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

const (
	fileSize  = 256 << 20 // bytes
	treeFiles = 10_000
	treeDirs  = 100

	copyRounds = 2 // at most: scp -r takes minutes for such a tree in an emulated guest
)

// A copier moves things into its VM, where they are called there, and back.
type copier struct {
	what  string
	in    func(ctx context.Context, from, there string) error
	out   func(ctx context.Context, there, to string) error
	clean func(ctx context.Context, there string) error // also writes what is dirty, for the next one's sake
}

// copies compares banger vm cp with scp(1), and for a tree with rsync(1), through
// the sshd of the same image in another VM.
func (b *bench) copies(ctx context.Context) ([]row, error) {
	src := filepath.Join(b.in.sandbox.Dir, "copies")
	if err := makeCopies(src); err != nil {
		return nil, err
	}
	v, end, err := b.pair(ctx, "cp")
	if err != nil {
		return nil, err
	}
	defer end()
	banger, scp := b.bangerCP("cp"), v.scp()
	file, err := b.copyInTurns(ctx, filepath.Join(src, "file"), banger, scp)
	if err != nil {
		return nil, err
	}
	rows := []row{
		ratio("banger vm cp, 256 MiB into a VM", file[0].in, scp.what, file[1].in, 1),
		ratio("banger vm cp, 256 MiB out of a VM", file[0].out, scp.what, file[1].out, 1),
	}
	trees := []copier{banger, scp}
	noRsync := v.provideRsync(ctx)
	if noRsync != nil {
		progress("no rsync: %v", noRsync)
	} else {
		trees = append(trees, v.rsync())
	}
	tree, err := b.copyInTurns(ctx, filepath.Join(src, "tree"), trees...)
	if err != nil {
		return nil, err
	}
	const in, out = "banger vm cp, 10,000 files into a VM", "banger vm cp, 10,000 files out of a VM"
	rows = append(rows, ratio(in, tree[0].in, scp.what, tree[1].in, 0.5), ratio(out, tree[0].out, scp.what, tree[1].out, 0.5))
	if noRsync != nil {
		return append(rows, notMeasured(in+", against rsync", noRsync.Error())), end()
	}
	return append(rows,
		ratio(in, tree[0].in, trees[2].what, tree[2].in, 0),
		ratio(out, tree[0].out, trees[2].what, tree[2].out, 0)), end()
}

// makeCopies makes what is copied: a file and a tree of small ones, of random
// bytes all, so that nothing is gained by compressing them.
func makeCopies(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "file"), random(fileSize), 0o644); err != nil {
		return err
	}
	sizes, content := random(2*treeFiles), random(1<<20)
	for i := range treeFiles {
		name := filepath.Join(dir, "tree", fmt.Sprintf("d%02d", i%treeDirs), fmt.Sprintf("f%04d", i))
		if i < treeDirs {
			if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
				return err
			}
		}
		size := (int(sizes[2*i])<<8 | int(sizes[2*i+1])) % (4 << 10)
		at := (i * 97) % (len(content) - size)
		if err := os.WriteFile(name, content[at:at+size], 0o644); err != nil {
			return err
		}
	}
	return nil
}

// ways are the times that one copier took, seconds.
type ways struct{ in, out []float64 }

// copyInTurns copies src into each copier's VM and back, and compares what came
// back with it.
func (b *bench) copyInTurns(ctx context.Context, src string, copiers ...copier) ([]ways, error) {
	times := make([]ways, len(copiers))
	back := filepath.Join(b.in.sandbox.Dir, "back")
	rounds := min(b.boots, copyRounds)
	for i := range rounds {
		progress("copies of %s, round %d of %d", filepath.Base(src), i+1, rounds)
		for n, c := range copiers {
			in, err := timed(func() error { return c.in(ctx, src, "there") })
			if err != nil {
				return nil, err
			}
			out, err := timed(func() error { return c.out(ctx, "there", back) })
			if err != nil {
				return nil, err
			}
			times[n].in, times[n].out = append(times[n].in, in), append(times[n].out, out)
			err = command(ctx, "diff", "-r", src, back)
			if err = errors.Join(err, os.RemoveAll(back), c.clean(ctx, "there")); err != nil {
				return nil, fmt.Errorf("%s: %w", c.what, err)
			}
		}
	}
	return times, nil
}

const removal = "rm -rf %s && sync"

func (b *bench) bangerCP(vm string) copier {
	return copier{
		what: "banger vm cp",
		in: func(ctx context.Context, from, there string) error {
			return b.in.banger(ctx, "vm", "cp", from, vm+":"+there)
		},
		out: func(ctx context.Context, there, to string) error {
			return b.in.banger(ctx, "vm", "cp", vm+":"+there, to)
		},
		clean: func(ctx context.Context, there string) error {
			return b.in.banger(ctx, "vm", "exec", vm, "--", "sh", "-c", fmt.Sprintf(removal, there))
		},
	}
}

func (v *handVM) scp() copier {
	args := append(v.sshOptions(v.sshd), "-q", "-r")
	return copier{
		what: "scp -r",
		in: func(ctx context.Context, from, there string) error {
			return command(ctx, "scp", append(args, from, "root@127.0.0.1:"+there)...)
		},
		out: func(ctx context.Context, there, to string) error {
			return command(ctx, "scp", append(args, "root@127.0.0.1:"+there, to)...)
		},
		clean: v.clean,
	}
}

func (v *handVM) rsync() copier {
	args := []string{"-a", "-e", "ssh " + strings.Join(v.sshOptions(v.sshd), " ")}
	return copier{
		what: "rsync -a",
		in: func(ctx context.Context, from, there string) error {
			return command(ctx, "rsync", append(args, from+"/", "root@127.0.0.1:"+there)...)
		},
		out: func(ctx context.Context, there, to string) error {
			return command(ctx, "rsync", append(args, "root@127.0.0.1:"+there+"/", to)...)
		},
		clean: v.clean,
	}
}

func (v *handVM) clean(ctx context.Context, there string) error {
	return v.ssh(ctx, v.sshd, fmt.Sprintf(removal, there))
}

// provideRsync installs rsync(1) in a VM whose image has none: by Debian's
// packages, fetched here, since the guest may reach nothing.
func (v *handVM) provideRsync(ctx context.Context) error {
	if v.ssh(ctx, v.sshd, "command -v rsync") == nil {
		return nil
	}
	cmd := exec.CommandContext(ctx, "apt-get", "-q", "download", "rsync", "libpopt0", "libxxhash0")
	cmd.Dir = filepath.Join(v.dir, "debs")
	if err := os.Mkdir(cmd.Dir, 0o755); err != nil {
		return err
	}
	if _, err := cmd.Output(); err != nil {
		return fmt.Errorf("the image has none, and apt-get download failed: %w", err)
	}
	if err := v.scp().in(ctx, cmd.Dir, "debs"); err != nil {
		return err
	}
	return v.ssh(ctx, v.sshd, "dpkg -i debs/*.deb")
}

func command(ctx context.Context, name string, args ...string) error {
	if out, err := exec.CommandContext(ctx, name, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", name, err, out)
	}
	return nil
}

// random returns n bytes, each time the same ones.
func random(n int) []byte {
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{}).Read(b)
	return b
}
