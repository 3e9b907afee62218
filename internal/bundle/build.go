package bundle

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"banger"
	"banger/internal/host"
)

// A Builder makes bundles out of Debian's packages.
type Builder struct {
	Runner     host.Runner
	Version    string           // this build of banger, for the manifest
	UID        int              // of the process; 0 builds without a user namespace
	User       string           // its name in the files below
	SubUIDFile string           // /etc/subuid
	SubGIDFile string           // /etc/subgid
	Env        []string         // for the downloads: http_proxy and the like, NAME=VALUE
	Now        func() time.Time // the clock
}

// Build makes a bundle and renames it to output, an absolute path, replacing
// the bundle that may be there. Whatever goes wrong, and when ctx is
// cancelled, output is as it was and nothing else is left.
func (b *Builder) Build(ctx context.Context, output string, rep Reporter) (made banger.Bundle, err error) {
	if !filepath.IsAbs(output) {
		return banger.Bundle{}, banger.Errorf(banger.Invalid, "output directory %q is not absolute", output)
	}
	if err := replaceable(output); err != nil {
		return banger.Bundle{}, err
	}
	tool, err := b.preflight(ctx, output)
	if err != nil {
		return banger.Bundle{}, err
	}
	parents := missing(filepath.Dir(output))
	defer func() { // after the workspace, which is in them
		for _, dir := range parents {
			if err == nil || os.Remove(dir) != nil {
				break // somebody else has put something there
			}
		}
	}()
	w, err := b.openWorkspace(ctx, output)
	if err != nil {
		return banger.Bundle{}, err
	}
	defer func() { err = errors.Join(err, b.closeWorkspace(ctx, w)) }()
	m := banger.Bundle{Format: banger.BundleFormat, CreatedAt: b.Now().UTC().Truncate(time.Second), Builder: b.Version}
	m.Artifacts, err = b.artifacts(ctx, w, tool, rep)
	if err != nil {
		return banger.Bundle{}, err
	}
	text, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return banger.Bundle{}, err
	}
	if _, err := Parse(text); err != nil {
		return banger.Bundle{}, fmt.Errorf("check own manifest: %w", err)
	}
	if err := writeSynced(filepath.Join(w.bundle, banger.BundleManifest), append(text, '\n')); err != nil {
		return banger.Bundle{}, fmt.Errorf("write manifest: %w", err)
	}
	if err := w.publish(output); err != nil {
		return banger.Bundle{}, err
	}
	return Open(output)
}

// artifacts makes every file of the bundle and returns what the manifest says
// of each.
func (b *Builder) artifacts(ctx context.Context, w *workspace, tool string, rep Reporter) ([]banger.BundleArtifact, error) {
	var (
		kernel    kernelPackage
		installed map[string]string
		os        string
	)
	steps := []struct {
		name string
		do   func() error
	}{
		{"install Debian", func() error { return b.bootstrap(ctx, w, rep) }},
		{"unpack kernel", func() (err error) { kernel, err = b.unpackKernel(ctx, w); return err }},
		{"unpack vmlinux", func() error { return extractKernel(w) }},
		{"make initramfs", func() error { return writeInitramfs(w, kernel) }},
		{"make modules image", func() error { return b.modulesImage(ctx, w, kernel) }},
		{"prepare base image", func() (err error) {
			if installed, err = b.installed(ctx, w.tree); err != nil {
				return err
			}
			os, err = prepareTree(w.tree)
			return err
		}},
		{"make base image", func() error { return b.baseImage(ctx, w) }},
	}
	for _, s := range steps {
		if err := timed(rep, s.name, s.do); err != nil {
			return nil, err
		}
	}
	origin := func(packages map[string]string) banger.Provenance {
		return banger.Provenance{Distribution: debianLabel, Tool: tool, Packages: packages}
	}
	list := []banger.BundleArtifact{
		{Kind: banger.KindKernel, Name: "debian-12-cloud", File: fileKernel, Provenance: origin(kernel.packages)},
		{Kind: banger.KindVMLinux, Name: "debian-12-cloud", File: fileVMLinux, Provenance: origin(kernel.packages)},
		{Kind: banger.KindInitramfs, Name: "debian-12-cloud", File: fileInitramfs, Provenance: origin(kernel.packages)},
		{Kind: banger.KindModules, Name: "debian-12-cloud", File: fileModules, Provenance: origin(kernel.packages)},
		{Kind: banger.KindImage, Name: imageName, File: fileImage, OS: os, Provenance: origin(installed)},
	}
	for i := range list {
		list[i].Default, list[i].Release = true, kernel.release
		if err := seal(ctx, w, &list[i], rep); err != nil {
			return nil, err
		}
	}
	return list, nil
}

// seal makes a finished file read-only and durable, and records its digest.
func seal(ctx context.Context, w *workspace, a *banger.BundleArtifact, rep Reporter) error {
	return timed(rep, "hash "+a.File, func() (err error) {
		name := filepath.Join(w.bundle, a.File)
		f, err := os.Open(name)
		if err != nil {
			return err
		}
		defer f.Close()
		if err := errors.Join(f.Chmod(0o444), f.Sync()); err != nil {
			return fmt.Errorf("sync %s: %w", a.File, err)
		}
		a.Size, a.SHA256, err = digest(ctx, name, func(done, total int64) { rep.Progress("hash "+a.File, done, total) })
		return err
	})
}

func writeSynced(name string, text []byte) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o444)
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	return errors.Join(err, f.Chmod(0o444), f.Sync(), f.Close())
}
