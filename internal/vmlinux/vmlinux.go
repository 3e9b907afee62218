// Package vmlinux takes the ELF kernel out of a Linux x86 bzImage, which
// Firecracker before 1.17 cannot boot. It trusts nothing that an image says of
// itself.
package vmlinux

import (
	"compress/gzip"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
	"github.com/ulikunitz/xz"
)

// maxKernel bounds what a kernel unpacks to, bytes: Debian's takes 50 MiB.
const maxKernel = 512 << 20

// Fields of the header of a bzImage (Documentation/arch/x86/boot.rst of Linux).
const (
	headerSize    = 0x250
	setupSects    = 0x1f1 // u8: sectors of real-mode code after the first; 0 means 4
	magicAt       = 0x202 // "HdrS"
	versionAt     = 0x206 // u16, of the boot protocol
	payloadAt     = 0x248 // u32: offset in the protected-mode code
	payloadLength = 0x24c // u32: bytes
	hasPayload    = 0x0208
)

// Extract writes the ELF kernel in the bzImage that r holds, of size bytes, to
// a new file of mode 0600 at path. After an error no file is left.
func Extract(path string, r io.ReaderAt, size int64) (err error) {
	payload, err := payloadOf(r, size)
	if err != nil {
		return fmt.Errorf("bzImage: %w", err)
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer func() {
		if err = errors.Join(err, f.Close()); err != nil {
			err = errors.Join(err, os.Remove(path))
		}
	}()
	if err := unpack(f, payload); err != nil {
		return fmt.Errorf("bzImage: %w", err)
	}
	return check(f)
}

// payloadOf is the compressed kernel.
func payloadOf(r io.ReaderAt, size int64) (*io.SectionReader, error) {
	var h [headerSize]byte
	if _, err := r.ReadAt(h[:], 0); err != nil {
		return nil, fmt.Errorf("read the header: %w", err)
	}
	u32 := func(at int) int64 { return int64(binary.LittleEndian.Uint32(h[at:])) }
	if string(h[magicAt:magicAt+4]) != "HdrS" {
		return nil, errors.New("no Linux kernel: its header lacks the magic number")
	}
	if v := binary.LittleEndian.Uint16(h[versionAt:]); v < hasPayload {
		return nil, fmt.Errorf("boot protocol %d.%d does not say where the kernel is", v>>8, v&0xff)
	}
	sects := int64(h[setupSects])
	if sects == 0 {
		sects = 4
	}
	from, n := (sects+1)*512+u32(payloadAt), u32(payloadLength)
	if n < 8 || from+n > size {
		return nil, fmt.Errorf("the kernel should be %d bytes at %d of %d", n, from, size)
	}
	return io.NewSectionReader(r, from, n), nil
}

// unpack decompresses p, which says by its first bytes how, and by its last four
// how large it is.
func unpack(to io.Writer, p *io.SectionReader) error {
	var head [6]byte
	var tail [4]byte
	_, err := p.ReadAt(head[:], 0)
	if _, terr := p.ReadAt(tail[:], p.Size()-int64(len(tail))); errors.Join(err, terr) != nil {
		return fmt.Errorf("read the kernel: %w", errors.Join(err, terr))
	}
	want := int64(binary.LittleEndian.Uint32(tail[:]))
	if want > maxKernel {
		return fmt.Errorf("the kernel unpacks to %d bytes, more than %d", want, maxKernel)
	}
	in, end, err := reader(string(head[:]), p)
	if err != nil {
		return err
	}
	defer end()
	n, err := io.Copy(to, io.LimitReader(in, want+1))
	if err == nil && n != want {
		err = fmt.Errorf("%d bytes or more, not %d", n, want)
	}
	if err != nil {
		return fmt.Errorf("unpack the kernel: %w", err)
	}
	return nil
}

// reader decompresses p. All but gzip, which ends with that anyway, are followed
// by the size, which is none of theirs.
func reader(magic string, p *io.SectionReader) (_ io.Reader, end func(), err error) {
	body := io.NewSectionReader(p, 0, p.Size()-4)
	none := func() {}
	switch {
	case magic[:2] == "\x1f\x8b":
		r, err := gzip.NewReader(p)
		return r, none, err
	case magic[:4] == "\x02\x21\x4c\x18": // a legacy frame, which has no end
		return lz4.NewReader(body), none, nil
	case magic == "\xfd7zXZ\x00":
		r, err := xz.ReaderConfig{SingleStream: true, DictCap: maxDict}.NewReader(body)
		return r, none, err
	case magic[:4] == "\x28\xb5\x2f\xfd":
		r, err := zstd.NewReader(body, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(maxDict))
		if err != nil {
			return nil, none, err
		}
		return r, r.Close, nil
	}
	return nil, none, fmt.Errorf("compressed in a way that is not known: %x", magic)
}

// maxDict bounds the memory that decompression takes: the kernel's own makefile
// asks for at most 128 MiB (xz -T0 --lzma2=dict=128MiB, zstd -22 --ultra).
const maxDict = 128 << 20

// check says whether f is what a VMM boots.
func check(f *os.File) error {
	e, err := elf.NewFile(f)
	if err != nil {
		return fmt.Errorf("the unpacked kernel is no ELF file: %w", err)
	}
	if e.Class != elf.ELFCLASS64 || e.Machine != elf.EM_X86_64 {
		return fmt.Errorf("the unpacked kernel is for %s (%s), not x86-64", e.Machine, e.Class)
	}
	return nil
}
