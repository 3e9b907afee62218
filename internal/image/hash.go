package image

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"

	"banger"
)

// A hashed file is what was read, and what the file looked like meanwhile.
type hashed struct {
	digest banger.Digest
	stamp  banger.FileStamp
}

// hash reads the regular file name. A file that changes under it is an error:
// no digest could stand for it.
func hash(ctx context.Context, name string, progress func(done, total int64)) (hashed, error) {
	for try := 1; ; try++ {
		h, err := hashOnce(ctx, name, progress)
		if !errors.Is(err, errChanged) || try == hashTries {
			return h, err
		}
	}
}

// A file that another daemon links to meanwhile changes its ctime, not its
// content: it is read again. Each of them does so three times for each file
// (link, mode, name), and two that took the same bundle at once were seen to
// use up three tries.
const hashTries = 10

var errChanged = errors.New("it changed while it was read")

func hashOnce(ctx context.Context, name string, progress func(done, total int64)) (hashed, error) {
	// Neither a link nor a pipe in the place of a file.
	f, err := os.OpenFile(name, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return hashed{}, err
	}
	defer f.Close()
	before, err := f.Stat()
	if err != nil {
		return hashed{}, err
	}
	if !before.Mode().IsRegular() {
		return hashed{}, fmt.Errorf("%s is not a regular file", name)
	}
	sum, buf, done := sha256.New(), make([]byte, 1<<20), int64(0)
	for {
		if err := ctx.Err(); err != nil {
			return hashed{}, err
		}
		n, err := f.Read(buf)
		sum.Write(buf[:n])
		if done += int64(n); n > 0 {
			progress(done, before.Size())
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return hashed{}, err
		}
	}
	after, err := f.Stat()
	if err != nil {
		return hashed{}, err
	}
	if stampOf(before) != stampOf(after) {
		return hashed{}, fmt.Errorf("hash %s: %w", name, errChanged)
	}
	return hashed{digest: banger.Digest("sha256:" + hex.EncodeToString(sum.Sum(nil))), stamp: stampOf(after)}, nil
}

// unchanged reports whether a blob is as it was when it was last hashed.
func (c *Catalog) unchanged(ctx context.Context, d banger.Digest) (bool, error) {
	want, ok, err := c.store.Stamp(ctx, d)
	if err != nil || !ok {
		return false, err
	}
	now, err := c.blobs.stat(d)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil && now == want, err
}

// rehash hashes a blob that does not look as it did and reports whether it is
// still what its name says; if so its new looks are stored.
func (c *Catalog) rehash(ctx context.Context, d banger.Digest) (bool, error) {
	h, err := hash(ctx, c.blobs.path(d), func(int64, int64) {})
	if ctx.Err() != nil {
		return false, ctx.Err()
	}
	if err != nil || h.digest != d {
		return false, nil
	}
	return true, c.store.PutStamp(ctx, d, h.stamp)
}

// unreadable explains an error of copying a bundle's file.
func unreadable(source string, err error) error {
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
		return banger.Errorf(banger.HostUnready, "bundle file %s: %w", source, err).WithRemedy("banger bundle verify")
	}
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
		return banger.Errorf(banger.HostUnready, "no room for the image: %w", err).WithRemedy("free some space, or set BANGER_STATE_DIR to a larger disk")
	}
	return err
}
