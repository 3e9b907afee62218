package vmmtest

import (
	"bytes"
	_ "embed"
	"io"

	"github.com/u-root/u-root/pkg/cpio"
)

// GuestSource is the Go program (package main, standard library only) that the
// suite's VMs run as /init. Build it static, for Linux.
//
//go:embed testdata/guest/main.go
var GuestSource string

// Initrd writes the suite's initramfs: the built guest and, behind it, a
// bundle's base initramfs with the modules that the guest loads.
func Initrd(w io.Writer, guest []byte, base io.Reader) error {
	var b bytes.Buffer
	a := cpio.Newc.Writer(&b)
	for _, dir := range []string{"dev", "proc", "sys", "mnt"} {
		if err := a.WriteRecord(cpio.Directory(dir, 0o755)); err != nil {
			return err
		}
	}
	if err := a.WriteRecord(cpio.StaticFile("init", string(guest), 0o755)); err != nil {
		return err
	}
	if err := cpio.WriteTrailer(a); err != nil {
		return err
	}
	b.Write(make([]byte, -b.Len()&3)) // the kernel looks for the next archive there
	if _, err := b.WriteTo(w); err != nil {
		return err
	}
	_, err := io.Copy(w, base)
	return err
}
