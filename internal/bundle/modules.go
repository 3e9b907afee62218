package bundle

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"banger/internal/initramfs"
)

// modulesImage makes the read-only image of all modules and their indexes.
// ext4, because that is in Debian's cloud kernel while squashfs and erofs are
// themselves modules; without a journal, since nobody writes to it.
func (b *Builder) modulesImage(ctx context.Context, w *workspace, k kernelPackage) error {
	size, err := diskUsage(k.modules)
	if err != nil {
		return fmt.Errorf("measure modules: %w", err)
	}
	return b.mke2fs(ctx, k.modules, filepath.Join(w.bundle, fileModules), fmt.Sprintf("%dK", size>>10),
		"-t", "ext4", "-O", "none,extent,filetype,dir_index,sparse_super,large_file,extra_isize", "-m", "0", "-I", "256", "-N", "8192", "-E", "root_owner=0:0")
}

// diskUsage returns how large a file system must be for the files in dir, in
// bytes: whole blocks, and room for the file system's own.
func diskUsage(dir string) (int64, error) {
	const block = 4096
	total := int64(8 << 20)
	err := filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		st, err := d.Info()
		if err != nil {
			return err
		}
		total += (st.Size()+block-1)/block*block + block
		return nil
	})
	return total / (1 << 20) * (1 << 20), err
}

// writeInitramfs packs the modules that the guest program loads.
func writeInitramfs(w *workspace, k kernelPackage) error {
	f, err := os.OpenFile(filepath.Join(w.bundle, fileInitramfs), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := initramfs.BaseFromTree(f, k.modules, k.release); err != nil {
		return err
	}
	return f.Close()
}
