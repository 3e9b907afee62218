package bundle

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"banger"
)

// Verify hashes every file of b and compares size and digest with the
// manifest. The error names the first file that is missing or differs.
func Verify(ctx context.Context, b banger.Bundle, rep Reporter) error {
	for _, a := range b.Artifacts {
		err := timed(rep, "verify "+a.File, func() error {
			size, sum, err := digest(ctx, filepath.Join(b.Dir, a.File), func(done, total int64) {
				rep.Progress("verify "+a.File, done, total)
			})
			switch {
			case ctx.Err() != nil:
				return ctx.Err()
			case err != nil:
				return banger.Errorf(banger.Invalid, "bundle file %s: %w", filepath.Join(b.Dir, a.File), err)
			case size != a.Size:
				return banger.Errorf(banger.Invalid, "bundle file %s has %d bytes, its manifest says %d", filepath.Join(b.Dir, a.File), size, a.Size)
			case sum != a.SHA256:
				return banger.Errorf(banger.Invalid, "bundle file %s is not what its manifest says: its SHA-256 differs", filepath.Join(b.Dir, a.File))
			}
			return nil
		})
		if err != nil {
			return banger.AsError(err).WithRemedy(rebuild, b.Dir)
		}
	}
	return nil
}

// digest returns the apparent size and the SHA-256 (hex) of the regular file
// named name; progress is told after each MiB or so.
func digest(ctx context.Context, name string, progress func(done, total int64)) (int64, string, error) {
	f, err := os.Open(name)
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
