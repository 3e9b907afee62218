package image

import (
	"context"

	"banger"
)

// Resolve returns the image that name means, "" the default one. A runtime
// bundle comes first, the one in the directory bundle or, for "", the one that
// is found: its image is registered if it is not yet, so that a rebuilt bundle
// is used without further ado. What no bundle has is looked for among the
// images registered before, also by ID.
func (c *Catalog) Resolve(ctx context.Context, name, bundle string, rep Reporter) (banger.Image, error) {
	b, missing := c.bundles.Find(bundle)
	if missing != nil && (bundle != "" || banger.CodeOf(missing) != banger.NotFound) {
		return banger.Image{}, missing
	}
	if missing == nil && has(b, name) {
		return c.Register(ctx, b, name, rep)
	}
	img, err := c.registered(ctx, name)
	if banger.CodeOf(err) == banger.NotFound && name == "" && missing != nil {
		return banger.Image{}, missing // tells where a bundle was looked for
	}
	return img, err
}

func (c *Catalog) registered(ctx context.Context, name string) (banger.Image, error) {
	if name == "" {
		return c.store.DefaultImage(ctx)
	}
	return c.store.Image(ctx, name)
}

// has reports whether b has an image of that name, "" meaning its default.
func has(b banger.Bundle, name string) bool {
	_, err := pick(b, banger.KindImage, name)
	return err == nil
}

// pick returns the artifact of b of that kind and name, "" meaning the default.
func pick(b banger.Bundle, kind banger.ArtifactKind, name string) (banger.BundleArtifact, error) {
	for _, a := range b.Artifacts {
		if a.Kind == kind && (a.Name == name || name == "" && a.Default) {
			return a, nil
		}
	}
	if name == "" {
		name = "default"
	}
	return banger.BundleArtifact{}, banger.Errorf(banger.NotFound, "bundle %s has no %s %s", b.Dir, name, kind)
}
