package bundle

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"banger"
)

// maxManifest bounds what is read of a manifest: one of the default bundle
// takes 20 KiB, most of it package versions.
const maxManifest = 4 << 20

// kinds are what a bundle must have a default of; optional is what it may lack.
var (
	kinds    = []banger.ArtifactKind{banger.KindKernel, banger.KindInitramfs, banger.KindModules, banger.KindImage}
	optional = []banger.ArtifactKind{banger.KindVMLinux}
)

// rebuild is the remedy for every broken bundle.
const rebuild = "build it anew: banger bundle build --output %s"

// Open reads and validates the manifest of the bundle in dir. It looks at no
// artifact: Verify does. An error for a dir without manifest is NotFound, for
// one with a bad manifest HostUnready; both say what to do.
func Open(dir string) (banger.Bundle, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return banger.Bundle{}, err
	}
	name := filepath.Join(dir, banger.BundleManifest)
	f, err := os.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return banger.Bundle{}, banger.Errorf(banger.NotFound, "no runtime bundle in %s: %w", dir, err).
			WithRemedy("banger bundle build --output %s", dir)
	}
	if err != nil {
		return banger.Bundle{}, fmt.Errorf("open bundle: %w", err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxManifest+1))
	if err != nil {
		return banger.Bundle{}, fmt.Errorf("read bundle manifest: %w", err)
	}
	b, err := Parse(text)
	if err != nil {
		return banger.Bundle{}, banger.Errorf(banger.HostUnready, "manifest %s: %w", name, err).WithRemedy(rebuild, dir)
	}
	b.Dir = dir
	return b, nil
}

// Parse reads a manifest strictly: another format number, an unknown field, a
// file name with a path in it or a malformed digest is an error. Dir is empty.
func Parse(text []byte) (banger.Bundle, error) {
	if len(text) > maxManifest {
		return banger.Bundle{}, fmt.Errorf("larger than %d bytes", maxManifest)
	}
	var format struct {
		Format int `json:"format"`
	}
	// Before the strict reading: a newer format has fields this one does not.
	if err := json.Unmarshal(text, &format); err != nil {
		return banger.Bundle{}, err
	}
	if format.Format != banger.BundleFormat {
		return banger.Bundle{}, fmt.Errorf("format %d, this banger reads %d", format.Format, banger.BundleFormat)
	}
	var b banger.Bundle
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&b); err != nil {
		return banger.Bundle{}, err
	}
	if _, err := d.Token(); err != io.EOF {
		return banger.Bundle{}, errors.New("something follows the manifest")
	}
	return b, validate(b)
}

func validate(b banger.Bundle) error {
	type key struct {
		kind banger.ArtifactKind
		name string
	}
	names, files := map[key]bool{}, map[string]bool{}
	defaults := map[banger.ArtifactKind]int{}
	for i, a := range b.Artifacts {
		if err := validateArtifact(a); err != nil {
			return fmt.Errorf("artifact %d: %w", i, err)
		}
		if names[key{a.Kind, a.Name}] {
			return fmt.Errorf("artifact %d: a second %s named %q", i, a.Kind, a.Name)
		}
		if files[a.File] {
			return fmt.Errorf("artifact %d: file %q is named twice", i, a.File)
		}
		names[key{a.Kind, a.Name}], files[a.File] = true, true
		if a.Default {
			defaults[a.Kind]++
		}
	}
	for _, k := range kinds {
		if defaults[k] != 1 {
			return fmt.Errorf("%d defaults of kind %s, want one", defaults[k], k)
		}
	}
	for _, k := range optional {
		if defaults[k] > 1 {
			return fmt.Errorf("%d defaults of kind %s, want one at most", defaults[k], k)
		}
	}
	return nil
}

// Default returns the default artifact of a kind; every bundle has one.
func Default(b banger.Bundle, kind banger.ArtifactKind) banger.BundleArtifact {
	for _, a := range b.Artifacts {
		if a.Kind == kind && a.Default {
			return a
		}
	}
	return banger.BundleArtifact{}
}
