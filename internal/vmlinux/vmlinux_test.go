package vmlinux_test

import (
	"bytes"
	"compress/gzip"
	"debug/elf"
	"encoding/binary"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
	"github.com/ulikunitz/xz"

	"banger/internal/vmlinux"
)

// kernel is a small ELF file with something to compress.
func kernel(machine elf.Machine) []byte {
	var b bytes.Buffer
	h := elf.Header64{Type: uint16(elf.ET_EXEC), Machine: uint16(machine), Version: 1, Ehsize: 64}
	copy(h.Ident[:], elf.ELFMAG)
	h.Ident[elf.EI_CLASS], h.Ident[elf.EI_DATA], h.Ident[elf.EI_VERSION] = byte(elf.ELFCLASS64), byte(elf.ELFDATA2LSB), 1
	binary.Write(&b, binary.LittleEndian, h)
	b.WriteString(strings.Repeat("the kernel ", 1<<16))
	return b.Bytes()
}

func compress(t testing.TB, how string, b []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	var w io.WriteCloser
	var err error
	switch how {
	case "gzip":
		w = gzip.NewWriter(&out)
	case "lz4":
		l := lz4.NewWriter(&out)
		err = l.Apply(lz4.LegacyOption(true))
		w = l
	case "xz":
		w, err = xz.NewWriter(&out)
	case "zstd":
		w, err = zstd.NewWriter(&out)
	}
	if err == nil {
		_, err = w.Write(b)
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	if how != "gzip" { // as the kernel's build does
		return binary.LittleEndian.AppendUint32(out.Bytes(), uint32(len(b)))
	}
	return out.Bytes()
}

// bzImage is an image with that payload.
func bzImage(payload []byte) []byte {
	const sects, offset = 3, 100
	b := make([]byte, (sects+1)*512+offset)
	b[0x1f1] = sects
	copy(b[0x202:], "HdrS")
	binary.LittleEndian.PutUint16(b[0x206:], 0x20f)
	binary.LittleEndian.PutUint32(b[0x248:], offset)
	binary.LittleEndian.PutUint32(b[0x24c:], uint32(len(payload)))
	return append(append(b, payload...), "what follows"...)
}

func extract(t testing.TB, image []byte) ([]byte, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "vmlinux")
	err := vmlinux.Extract(path, bytes.NewReader(image), int64(len(image)))
	b, rerr := os.ReadFile(path)
	if (err == nil) != (rerr == nil) {
		t.Errorf("%v, and the file: %v", err, rerr)
	}
	return b, err
}

func TestExtract(t *testing.T) {
	want := kernel(elf.EM_X86_64)
	for _, how := range []string{"gzip", "lz4", "xz", "zstd"} {
		got, err := extract(t, bzImage(compress(t, how, want)))
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: %d bytes of %d, %v", how, len(got), len(want), err)
		}
	}
}

func TestExtractRefuses(t *testing.T) {
	good := bzImage(compress(t, "lz4", kernel(elf.EM_X86_64)))
	spoilt := func(f func(b []byte)) []byte {
		b := bytes.Clone(good)
		f(b)
		return b
	}
	broken := bzImage(compress(t, "zstd", kernel(elf.EM_X86_64)))
	broken[4*512+100+40] ^= 0xff
	for want, image := range map[string][]byte{
		"read the header":            good[:100],
		"lacks the magic number":     spoilt(func(b []byte) { b[0x202] = 'x' }),
		"boot protocol 2.7":          spoilt(func(b []byte) { b[0x206], b[0x207] = 7, 2 }),
		"should be":                  spoilt(func(b []byte) { b[0x24b] = 0xff }),
		"way that is not known":      spoilt(func(b []byte) { b[4*512+100] = 'x' }),
		"more than":                  spoilt(func(b []byte) { b[len(b)-len("what follows")-1] = 0xff }),
		"bytes or more, not":         spoilt(func(b []byte) { b[len(b)-len("what follows")-4]++ }),
		"no ELF file":                bzImage(compress(t, "zstd", []byte("something else"))),
		"for EM_AARCH64":             bzImage(compress(t, "xz", kernel(elf.EM_AARCH64))),
		"unpack the kernel":          broken,
		"the kernel should be 4 byt": bzImage([]byte("abcd")),
	} {
		if _, err := extract(t, image); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}

// A file that is there stays as it is.
func TestExtractOverAnother(t *testing.T) {
	path := filepath.Join(t.TempDir(), "vmlinux")
	if err := os.WriteFile(path, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	image := bzImage(compress(t, "zstd", kernel(elf.EM_X86_64)))
	if err := vmlinux.Extract(path, bytes.NewReader(image), int64(len(image))); err == nil {
		t.Error("it was taken")
	}
	if b, err := os.ReadFile(path); string(b) != "mine" {
		t.Errorf("%q, %v", b, err)
	}
}

// TestRealKernel unpacks a bundle's.
func TestRealKernel(t *testing.T) {
	dir := os.Getenv("BANGER_RUNTIME_DIR")
	if dir == "" {
		t.Skip("SKIPPED: needs a real kernel: set BANGER_RUNTIME_DIR to a runtime bundle")
	}
	image, err := os.ReadFile(filepath.Join(dir, "vmlinuz"))
	if err != nil {
		t.Fatal(err)
	}
	got, err := extract(t, image)
	if err != nil || len(got) < len(image) {
		t.Errorf("%d bytes out of %d, %v", len(got), len(image), err)
	}
}

func FuzzExtract(f *testing.F) {
	small := []byte("\x7fELF")
	for _, how := range []string{"gzip", "lz4", "xz", "zstd"} {
		f.Add(bzImage(compress(f, how, small)))
	}
	f.Fuzz(func(t *testing.T, image []byte) { extract(t, image) })
}
