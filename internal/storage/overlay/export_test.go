package overlay

import (
	"encoding/binary"
	"io"
)

// ParseHeader is parseHeader, in pieces.
func ParseHeader(r io.ReaderAt) (backing string, size int64, err error) {
	h, err := parseHeader(r)
	return h.backing, h.size, err
}

// Header is the beginning of a qcow2 file.
func Header(backing string, size int64) []byte {
	b := make([]byte, 104)
	be := binary.BigEndian
	be.PutUint32(b, qcow2Magic)
	be.PutUint32(b[4:], 3)
	be.PutUint64(b[8:], uint64(len(b)))
	be.PutUint32(b[16:], uint32(len(backing)))
	be.PutUint32(b[20:], 16)
	be.PutUint64(b[24:], uint64(size))
	return append(b, backing...)
}
