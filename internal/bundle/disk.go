package bundle

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"

	"banger/internal/host"
)

// The bundle's files.
const (
	fileKernel    = "vmlinuz"
	fileVMLinux   = "vmlinux"
	fileInitramfs = "initramfs.img"
	fileModules   = "modules.ext4"
	fileImage     = "debian-12.ext4"
)

// baseFeatures are ext4's as the guests' kernel 6.1 knows them, spelled out
// so that they do not depend on the host's /etc/mke2fs.conf. resize_inode
// reserves the descriptor blocks that growing a mounted file system takes:
// 1024 times the size at creation.
var baseFeatures = []string{
	"none", "has_journal", "ext_attr", "resize_inode", "dir_index", "filetype", "extent", "64bit", "flex_bg",
	"sparse_super", "large_file", "huge_file", "dir_nlink", "extra_isize", "metadata_csum",
}

const (
	// baseSize is the image's virtual size: small, because every byte of it,
	// hole or not, is hashed. The guest program grows it to the VM's disk.
	baseSize = "1280M"
	// journalMiB does not grow with the file system; 64 is mke2fs's own choice for 16 GiB.
	journalMiB = 64
)

// baseImage makes the base image out of the tree.
func (b *Builder) baseImage(ctx context.Context, w *workspace) error {
	return b.mke2fs(ctx, w.tree, filepath.Join(w.bundle, fileImage), baseSize,
		"-t", "ext4", "-O", strings.Join(baseFeatures, ","), "-J", fmt.Sprintf("size=%d", journalMiB),
		"-m", "1", "-I", "256", "-i", "16384",
		// A new file reads as zeroes: with the inode tables marked as zeroed
		// the guest's kernel has nothing left to initialise in the background.
		"-E", "root_owner=0:0,lazy_itable_init=0,lazy_journal_init=1")
}

// mke2fs makes a file system of size in the new file named image, with all of
// dir in it, owners as the namespace sees them.
func (b *Builder) mke2fs(ctx context.Context, dir, image, size string, args ...string) error {
	args = append(append([]string{"-q", "-b", "4096", "-d", dir}, args...), image, size)
	if _, err := b.Runner.Run(ctx, b.inside(host.Cmd{Tool: "mke2fs", Args: args})); err != nil {
		return fmt.Errorf("make file system %s: %w", filepath.Base(image), err)
	}
	return nil
}
