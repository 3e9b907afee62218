package storagetest

import (
	"io"
	"os"
	"testing"
)

// ReadFile, WriteFile and FileSize are for strategies whose disk is a raw file
// or a block device.

// ReadFile reads n bytes from offset.
func ReadFile(t *testing.T, path string, offset int64, n int) []byte {
	t.Helper()
	f, err := os.Open(path)
	must(t, err)
	defer f.Close()
	p := make([]byte, n)
	_, err = f.ReadAt(p, offset)
	must(t, err)
	return p
}

// WriteFile writes p at offset.
func WriteFile(t *testing.T, path string, offset int64, p []byte) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	must(t, err)
	defer f.Close()
	_, err = f.WriteAt(p, offset)
	must(t, err)
	must(t, f.Sync())
}

// FileSize is how many bytes can be read.
func FileSize(t *testing.T, path string) int64 {
	t.Helper()
	f, err := os.Open(path)
	must(t, err)
	defer f.Close()
	n, err := f.Seek(0, io.SeekEnd)
	must(t, err)
	return n
}
