package overlay

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"os"

	"banger/internal/storage"
	"banger/internal/storage/diskfile"
)

// A header is what is read of a qcow2 file here.
type header struct {
	size    int64  // virtual, bytes
	backing string // name of the base
}

func readHeader(name string) (header, error) {
	f, err := diskfile.Open(name, os.O_RDONLY)
	if err != nil {
		return header{}, err
	}
	defer f.Close()
	return parseHeader(f)
}

// Limits of QEMU's docs/interop/qcow2.txt: the name lies in the first cluster,
// which has at most 2 MiB, and has at most 1023 bytes.
const (
	qcow2Magic = 0x514649fb // "QFI\xfb"
	maxCluster = 2 << 20
	maxBacking = 1023
)

// parseHeader reads the first 32 bytes of a qcow2 file, all big-endian: magic,
// version, offset (8 bytes) and length of the backing file's name, cluster
// bits, size (8 bytes); then the name.
func parseHeader(r io.ReaderAt) (header, error) {
	b := make([]byte, 32)
	if _, err := r.ReadAt(b, 0); err != nil {
		return header{}, fmt.Errorf("qcow2 header: %w", err)
	}
	be := binary.BigEndian
	if v := be.Uint32(b[4:]); be.Uint32(b) != qcow2Magic || v != 2 && v != 3 {
		return header{}, errors.New("not a qcow2 file")
	}
	offset, length, size := be.Uint64(b[8:]), be.Uint32(b[16:]), be.Uint64(b[24:])
	if offset > maxCluster || length > maxBacking || size > math.MaxInt64 {
		return header{}, errors.New("qcow2 header: a value is out of range")
	}
	h := header{size: int64(size)}
	if offset == 0 || length == 0 {
		return h, nil
	}
	name := make([]byte, length)
	if _, err := r.ReadAt(name, int64(offset)); err != nil {
		return header{}, fmt.Errorf("qcow2 header: name of the base: %w", err)
	}
	h.backing = string(name)
	return h, nil
}

// settle makes a new file private and durable.
func settle(name string, d storage.Disk) (err error) {
	f, err := diskfile.OpenOwn(name, os.O_RDONLY, d)
	if err != nil {
		return err
	}
	return errors.Join(f.Chmod(0o600), f.Sync(), f.Close())
}
