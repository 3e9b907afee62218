package boot

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"banger/internal/guestapi"
)

// loadModules loads what the base initramfs below dir lists, in that order, and
// returns the kernel release that it is for. A module that the kernel has
// already is no error.
func loadModules(dir string) (string, error) {
	list, err := os.ReadFile(filepath.Join(dir, guestapi.ModulesListPath))
	if err != nil {
		return "", fmt.Errorf("read list of kernel modules: %w", err)
	}
	for name := range strings.Lines(string(list)) {
		name = strings.TrimSpace(name)
		if name == "" {
			continue
		}
		if err := loadModule(filepath.Join(dir, name)); err != nil && !errors.Is(err, fs.ErrExist) {
			return "", fmt.Errorf("load kernel module %s: %w", name, err)
		}
	}
	release, err := os.ReadFile(filepath.Join(dir, guestapi.ReleasePath))
	if err != nil {
		return "", fmt.Errorf("read kernel release: %w", err)
	}
	return strings.TrimSpace(string(release)), nil
}

func loadModule(file string) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	return unix.FinitModule(int(f.Fd()), "", 0)
}
