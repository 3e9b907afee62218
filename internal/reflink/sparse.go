package reflink

import (
	"context"
	"errors"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// chunk is how much is copied between two looks at the context.
const chunk = 16 << 20

// copySparse copies the data of in to the empty file out and leaves its holes
// holes. size is the apparent size of both.
func copySparse(ctx context.Context, out, in *os.File, size int64) error {
	if err := out.Truncate(size); err != nil {
		return err
	}
	for at := int64(0); at < size; {
		data, err := in.Seek(at, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			return nil // nothing but a hole to the end
		}
		if err != nil {
			return err
		}
		hole, err := in.Seek(data, unix.SEEK_HOLE)
		if err != nil {
			return err
		}
		if at, err = copyRange(ctx, out, in, data, min(hole, size)); err != nil {
			return err
		}
	}
	return nil
}

// copyRange copies the bytes from to to, and returns to.
func copyRange(ctx context.Context, out, in *os.File, from, to int64) (int64, error) {
	for from < to {
		if err := ctx.Err(); err != nil {
			return from, err
		}
		r, w := from, from
		n, err := unix.CopyFileRange(int(in.Fd()), &r, int(out.Fd()), &w, int(min(chunk, to-from)), 0)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.EXDEV), errors.Is(err, unix.EINVAL), errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.ENOSYS):
			// between file systems before Linux 5.19, and on some of them ever
			var m int64
			m, err = io.Copy(io.NewOffsetWriter(out, from), io.NewSectionReader(in, from, min(chunk, to-from)))
			n = int(m)
		}
		if err != nil {
			return from, err
		}
		if n == 0 {
			return from, io.ErrUnexpectedEOF // it was cut off meanwhile
		}
		from += int64(n)
	}
	return to, nil
}
