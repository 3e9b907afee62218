package image

import (
	"context"
	"slices"
	"strings"
	"time"

	"banger"
)

// Files returns the paths of an image's files once each is known to be what
// was registered: unchanged since it was last hashed, or else hashed now, or
// taken once more from a bundle that has the very same. A file that is missing
// or differs all the same is an error that says what to do.
func (c *Catalog) Files(ctx context.Context, img banger.Image) (Files, error) {
	var paths [5]string
	for i, part := range artifactsOf(img) {
		what := [...]string{"root file system", "kernel", "initramfs", "modules", "vmlinux"}[i]
		if !part.Digest.Valid() {
			return Files{}, banger.Errorf(banger.Internal, "image %s: bad digest %q of its %s", img.ID, part.Digest, what)
		}
		ok, err := c.unchanged(ctx, part.Digest)
		if err == nil && !ok {
			ok, err = c.rehash(ctx, part.Digest)
		}
		if err == nil && !ok {
			ok, err = c.again(ctx, img.Source, part.Digest)
		}
		if err != nil {
			return Files{}, err
		}
		if !ok {
			return Files{}, c.damaged(ctx, img, what, part.Digest)
		}
		paths[i] = c.blobs.path(part.Digest)
	}
	return Files{Rootfs: paths[0], Kernel: paths[1], Initramfs: paths[2], Modules: paths[3], VMLinux: paths[4]}, nil
}

// again takes the artifact of that digest from the bundle that it came from, or
// from the one that is found now, and reports whether one of them has it still.
func (c *Catalog) again(ctx context.Context, source string, d banger.Digest) (bool, error) {
	for _, dir := range []string{source, ""} {
		b, err := c.bundles.Find(dir)
		if err != nil {
			continue // as good as one without it
		}
		i := slices.IndexFunc(b.Artifacts, func(a banger.BundleArtifact) bool { return artifact(a).Digest == d })
		if i < 0 {
			continue
		}
		if err := c.acquire(ctx); err != nil {
			return false, err
		}
		err = c.take(ctx, b.Dir, b.Artifacts[i], unheard{})
		c.release()
		if err == nil || ctx.Err() != nil {
			return err == nil, err
		}
	}
	return false, nil
}

// unheard is a Reporter of what takes too seldom place to be shown.
type unheard struct{}

func (unheard) Step(string)                    {}
func (unheard) StepDone(string, time.Duration) {}
func (unheard) Progress(string, int64, int64)  {}
func (unheard) Message(string, ...any)         {}

// damaged says that a registered file is gone or changed. Nothing can mend it
// but the very same file: a rebuilt bundle has another.
func (c *Catalog) damaged(ctx context.Context, img banger.Image, what string, d banger.Digest) error {
	state := "has changed since it was registered"
	if _, err := c.blobs.stat(d); err != nil {
		state = "is missing"
	}
	name := img.ID
	if img.Name != "" {
		name = img.Name + " (" + img.ID + ")"
	}
	e := banger.Errorf(banger.HostUnready, "image %s: its %s %s: %s", name, what, state, c.blobs.path(d))
	remedy := "put the file back, or build a bundle: banger bundle build"
	if users, err := c.store.ImageUsers(ctx, img.ID); err == nil && len(users) > 0 {
		remedy = "put the file back, or delete what needs it and build a bundle: banger vm delete " + strings.Join(users, " ") + "; banger bundle build"
	}
	return e.WithRemedy("%s", remedy)
}
