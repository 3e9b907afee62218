package main

import (
	"context"
	"crypto/sha256"
	_ "embed"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

//go:embed image.sh
var recipe []byte

// unused is how long another recipe's image is kept for whoever goes back to it.
const unused = 14 * 24 * time.Hour

// An image is what image.sh made.
type image struct {
	dir  string
	work string // the directory of this process's machines
}

func (i image) file(name string) string { return filepath.Join(i.dir, name) }

// cache is where images are kept: $XDG_CACHE_HOME/banger/lab.
func cache() (string, error) {
	dir, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	dir = filepath.Join(dir, "banger", "lab")
	return dir, os.MkdirAll(dir, 0o755)
}

// openImage returns the image of this recipe, and makes it first if there is none. Whoever asks
// meanwhile waits. In work there will be a directory for each machine.
func openImage(ctx context.Context, work string) (image, error) {
	top, err := cache()
	if err != nil {
		return image{}, err
	}
	name := fmt.Sprintf("host-%x", sha256.Sum256(recipe))[:len("host-")+16]
	lock, err := os.OpenFile(filepath.Join(top, name+".lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return image{}, err
	}
	defer lock.Close()
	if unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB) != nil {
		fmt.Fprintln(os.Stderr, "lab: waiting for another, who makes its image")
		if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
			return image{}, fmt.Errorf("lock %s: %w", lock.Name(), err)
		}
	}
	dir := filepath.Join(top, name)
	i := image{dir, work}
	now := time.Now()
	if os.Chtimes(dir, now, now) == nil {
		return i, i.save(ctx)
	}
	if err := removeUnused(top, now.Add(-unused)); err != nil {
		return image{}, err
	}
	fmt.Fprintf(os.Stderr, "lab: making its disk image out of Debian's packages (once) in %s\n", top)
	if err := build(ctx, dir); err != nil {
		return image{}, fmt.Errorf("make the lab's image: %w", err)
	}
	fmt.Fprintf(os.Stderr, "lab: made in %.0f s\n", time.Since(now).Seconds())
	return i, i.save(ctx)
}

// build makes an image aside, and gives it its name when it is whole.
func build(ctx context.Context, dir string) error {
	aside := dir + ".new"
	if err := os.RemoveAll(aside); err != nil {
		return err
	}
	if err := os.Mkdir(aside, 0o700); err != nil {
		return err
	}
	script := filepath.Join(aside, "image.sh")
	if err := os.WriteFile(script, recipe, 0o700); err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, "bash", script, aside)
	cmd.Cancel = func() error { return cmd.Process.Signal(unix.SIGTERM) } // mmdebstrap tidies up
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	if err := cmd.Run(); err != nil {
		return err
	}
	return os.Rename(aside, dir)
}

// removeUnused removes what was not used since.
func removeUnused(top string, since time.Time) error {
	entries, err := os.ReadDir(top)
	if err != nil {
		return err
	}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil || strings.HasSuffix(e.Name(), ".lock") || info.ModTime().After(since) {
			continue
		}
		if err := os.RemoveAll(filepath.Join(top, e.Name())); err != nil {
			return err
		}
	}
	return nil
}
