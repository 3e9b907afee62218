package initramfs

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/klauspost/compress/zstd"
)

// maxModule bounds a decompressed module, bytes.
const maxModule = 64 << 20

// LoadOrder returns the files of the wanted modules and of all that they depend
// on, in the order in which they must be loaded, as the paths that dep uses. dep
// and builtin are the texts of modules.dep and modules.builtin. A wanted module
// that is built into the kernel needs no file; one that is nowhere is an error.
func LoadOrder(dep, builtin string, wanted []string) ([]string, error) {
	r := resolver{needs: parseDep(dep), state: map[string]int{}}
	byName := map[string]string{}
	for file := range r.needs {
		byName[moduleName(file)] = file
	}
	inKernel := map[string]bool{}
	for line := range strings.Lines(builtin) {
		inKernel[moduleName(strings.TrimSpace(line))] = true
	}
	for _, name := range wanted {
		name = moduleName(name)
		file, ok := byName[name]
		switch {
		case ok:
			if err := r.visit(file); err != nil {
				return nil, err
			}
		case !inKernel[name]:
			return nil, fmt.Errorf("kernel module %s: neither among the modules nor built in", name)
		}
	}
	return r.order, nil
}

// parseDep reads lines "FILE: NEEDED…" of modules.dep; other lines are skipped.
func parseDep(dep string) map[string][]string {
	needs := map[string][]string{}
	for line := range strings.Lines(dep) {
		file, rest, ok := strings.Cut(line, ":")
		if file = strings.TrimSpace(file); ok && file != "" {
			needs[file] = strings.Fields(rest)
		}
	}
	return needs
}

const (
	visiting = 1
	visited  = 2
)

type resolver struct {
	needs map[string][]string
	state map[string]int // by file
	order []string
}

func (r *resolver) visit(file string) error {
	switch r.state[file] {
	case visited:
		return nil
	case visiting:
		return fmt.Errorf("kernel module %s depends on itself", file)
	}
	needs, ok := r.needs[file]
	if !ok {
		return fmt.Errorf("kernel module %s is needed but not listed", file)
	}
	r.state[file] = visiting
	// depmod lists what must be loaded first at the end.
	for _, n := range slices.Backward(needs) {
		if err := r.visit(n); err != nil {
			return err
		}
	}
	r.state[file] = visited
	r.order = append(r.order, file)
	return nil
}

// moduleName is the name that the kernel knows a module's file by.
func moduleName(file string) string {
	return strings.ReplaceAll(strings.TrimSuffix(plainName(file), ".ko"), "-", "_")
}

// plainName is the base name of a module's file without what its compression adds.
func plainName(file string) string {
	name := path.Base(file)
	for _, suffix := range []string{".gz", ".xz", ".zst"} {
		name = strings.TrimSuffix(name, suffix)
	}
	return name
}

func readModule(file string) ([]byte, error) {
	raw, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var r io.Reader = bytes.NewReader(raw)
	switch path.Ext(file) {
	case ".ko":
		return raw, nil
	case ".gz":
		if r, err = gzip.NewReader(r); err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
	case ".zst":
		z, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		defer z.Close()
		r = z
	default:
		return nil, fmt.Errorf("%s: unknown compression, want .ko, .ko.gz or .ko.zst", file)
	}
	content, err := io.ReadAll(io.LimitReader(r, maxModule+1))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	if len(content) > maxModule {
		return nil, fmt.Errorf("%s: more than %d bytes", file, maxModule)
	}
	return content, nil
}
