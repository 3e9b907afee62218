package bundle

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"banger"
)

// Verify hashes every file of b and compares size and digest with the
// manifest. The error names the first file that is missing or differs.
func Verify(ctx context.Context, b banger.Bundle, rep Reporter) error {
	for _, a := range b.Artifacts {
		step := "verify " + a.File
		if err := timed(rep, step, func() error { return verifyFile(ctx, b.Dir, a, rep, step) }); err != nil {
			return err
		}
	}
	return nil
}

func verifyFile(ctx context.Context, dir string, a banger.BundleArtifact, rep Reporter, step string) error {
	name := filepath.Join(dir, a.File)
	size, sum, err := digest(ctx, name, func(done, total int64) { rep.Progress(step, done, total) })
	var bad *banger.Error
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case err != nil:
		bad = banger.Errorf(banger.HostUnready, "bundle file %s: %w", name, err)
	case size != a.Size:
		bad = banger.Errorf(banger.HostUnready, "bundle file %s has %d bytes, its manifest says %d", name, size, a.Size)
	case sum != a.SHA256:
		bad = banger.Errorf(banger.HostUnready, "bundle file %s is not what its manifest says: its SHA-256 differs", name)
	default:
		return nil
	}
	return bad.WithRemedy(rebuild, dir)
}

// digest returns the apparent size and the SHA-256 (hex) of the regular file
// named name; progress is told after each MiB or so.
func digest(ctx context.Context, name string, progress func(done, total int64)) (int64, string, error) {
	f, err := os.OpenFile(name, os.O_RDONLY|unix.O_NONBLOCK, 0) // a pipe in its place must not block
	if err != nil {
		return 0, "", err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return 0, "", err
	}
	if !st.Mode().IsRegular() {
		return 0, "", fmt.Errorf("%s is no regular file", name)
	}
	h, buf, done := sha256.New(), make([]byte, 1<<20), int64(0)
	for {
		if err := ctx.Err(); err != nil {
			return 0, "", err
		}
		n, err := f.Read(buf)
		h.Write(buf[:n])
		done += int64(n)
		if n > 0 {
			progress(done, st.Size())
		}
		if err == io.EOF {
			return done, hex.EncodeToString(h.Sum(nil)), nil
		}
		if err != nil {
			return 0, "", err
		}
	}
}
