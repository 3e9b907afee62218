package image

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"banger"
	"banger/internal/reflink"
)

// Register takes an image of b, "" its default one, with b's default kernel,
// initramfs and modules into the state directory and gives it its name. Every
// file is hashed as it lies there; one that is there already, unchanged since
// it was hashed, costs a stat. Registers of the same files at once are safe.
func (c *Catalog) Register(ctx context.Context, b banger.Bundle, name string, rep Reporter) (banger.Image, error) {
	parts, err := partsOf(b, name)
	if err != nil {
		return banger.Image{}, err
	}
	img := banger.Image{
		Name: parts[0].Name, Default: parts[0].Default, OS: parts[0].OS, Release: parts[1].Release,
		Rootfs: artifact(parts[0]), Kernel: artifact(parts[1]), Initramfs: artifact(parts[2]), Modules: artifact(parts[3]),
		CreatedAt: c.now().UTC(), Source: b.Dir,
	}
	if len(parts) > 4 {
		img.VMLinux = artifact(parts[4])
	}
	img.ID = idOf(img)
	// Nearly always it is there: a VM must not wait until another one's image is
	// hashed.
	if there, err := c.complete(ctx, &img); there || err != nil {
		return img, err
	}
	if err := c.acquire(ctx); err != nil {
		return banger.Image{}, err
	}
	defer c.release()
	for _, a := range parts {
		if err := c.take(ctx, b.Dir, a, rep); err != nil {
			return banger.Image{}, fmt.Errorf("register image %s: %w", parts[0].Name, err)
		}
	}
	if there, err := c.recorded(ctx, &img); there || err != nil {
		return img, err
	}
	return img, c.store.PutImage(ctx, img)
}

// complete reports whether img is recorded as it is and its files are there.
func (c *Catalog) complete(ctx context.Context, img *banger.Image) (bool, error) {
	for _, a := range artifactsOf(*img) {
		if ok, err := c.unchanged(ctx, a.Digest); !ok || err != nil {
			return false, err
		}
	}
	return c.recorded(ctx, img)
}

// recorded reports whether img is recorded as it is, whose time it then gets.
func (c *Catalog) recorded(ctx context.Context, img *banger.Image) (bool, error) {
	all, err := c.store.Images(ctx)
	if err != nil {
		return false, err
	}
	i := slices.IndexFunc(all, func(i banger.Image) bool { return i.ID == img.ID })
	if i < 0 {
		return false, nil
	}
	img.CreatedAt = all[i].CreatedAt
	return all[i] == *img, nil
}

// partsOf returns the artifacts of an image: itself, kernel, initramfs, modules
// and, where the bundle has one, vmlinux. They must be of one kernel release:
// modules fit their kernel only.
func partsOf(b banger.Bundle, name string) ([]banger.BundleArtifact, error) {
	var parts []banger.BundleArtifact
	for _, want := range []struct {
		kind banger.ArtifactKind
		name string
	}{{banger.KindImage, name}, {banger.KindKernel, ""}, {banger.KindInitramfs, ""}, {banger.KindModules, ""}, {banger.KindVMLinux, ""}} {
		a, err := pick(b, want.kind, want.name)
		if err != nil && want.kind == banger.KindVMLinux {
			break // an older build's
		}
		if err != nil {
			return parts, err
		}
		if parts = append(parts, a); a.Release != parts[0].Release {
			return parts, banger.Errorf(banger.HostUnready, "bundle %s: %s is for kernel %s, %s for %s", b.Dir, a.File, a.Release, parts[0].File, parts[0].Release)
		}
	}
	return parts, nil
}

// take makes sure that the artifact a of the bundle in dir is among the blobs.
func (c *Catalog) take(ctx context.Context, dir string, a banger.BundleArtifact, rep Reporter) error {
	d := artifact(a).Digest
	if known, err := c.unchanged(ctx, d); known || err != nil {
		return err
	}
	if same, err := c.rehash(ctx, d); same || err != nil {
		return err
	}
	began, step := time.Now(), "register "+a.File
	rep.Step(step)
	source := filepath.Join(dir, a.File)
	if err := c.add(ctx, source, a, func(done, total int64) { rep.Progress(step, done, total) }); err != nil {
		return err
	}
	rep.StepDone(step, time.Since(began))
	return nil
}

// add copies a file that is not among the blobs and hashes the copy before it
// gets its name there.
func (c *Catalog) add(ctx context.Context, source string, a banger.BundleArtifact, progress func(done, total int64)) error {
	temp := c.blobs.temp(a.SHA256)
	defer c.blobs.discard(temp)
	mode := privateMode
	if c.shared {
		mode = sharedMode
	}
	if _, err := reflink.Link(ctx, source, temp, mode, c.mayLink); err != nil {
		return unreadable(source, err)
	}
	found, err := hash(ctx, temp, progress)
	if err != nil {
		return err
	}
	if found.digest != artifact(a).Digest || found.stamp.Size != a.Size {
		return banger.Errorf(banger.HostUnready, "bundle file %s is not what its manifest says: its SHA-256 or its size differs", source).
			WithRemedy("build it anew: banger bundle build --output %s", filepath.Dir(source))
	}
	stamp, err := c.blobs.accept(temp, found)
	if err != nil {
		return err
	}
	return c.store.PutStamp(ctx, found.digest, stamp)
}

func artifact(a banger.BundleArtifact) banger.Artifact {
	return banger.Artifact{Digest: banger.Digest("sha256:" + a.SHA256), Size: a.Size}
}

// idOf names an image by what it is made of.
func idOf(i banger.Image) string {
	h := sha256.New()
	for _, a := range artifactsOf(i) {
		fmt.Fprintln(h, a.Digest)
	}
	return hex.EncodeToString(h.Sum(nil))[:12]
}

// artifactsOf are those that an image has, in the order that its ID is made of.
func artifactsOf(i banger.Image) []banger.Artifact {
	all := []banger.Artifact{i.Rootfs, i.Kernel, i.Initramfs, i.Modules}
	if i.VMLinux != (banger.Artifact{}) {
		all = append(all, i.VMLinux)
	}
	return all
}
