package bundle_test

import (
	"bytes"
	"compress/gzip"
	"debug/elf"
	"encoding/binary"
)

// bzImage is the least that a kernel can be taken out of.
func bzImage() string {
	h := elf.Header64{Type: uint16(elf.ET_EXEC), Machine: uint16(elf.EM_X86_64), Version: 1, Ehsize: 64}
	copy(h.Ident[:], elf.ELFMAG+"\x02\x01\x01")
	var payload bytes.Buffer
	w := gzip.NewWriter(&payload)
	binary.Write(w, binary.LittleEndian, h) // never fails: a buffer
	w.Close()
	b := make([]byte, 5*512)
	copy(b[0x202:], "HdrS\x0f\x02")
	binary.LittleEndian.PutUint32(b[0x24c:], uint32(payload.Len()))
	return string(append(b, payload.Bytes()...))
}
