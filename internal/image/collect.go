package image

import (
	"context"
	"errors"
	"os"

	"banger"
)

// Collect removes what nothing needs: images whose name a newer one took and
// that no VM uses, and files in the blob directory that no image names, among
// them copies that a crash left unfinished. While an image is being registered,
// which takes long, it returns at once, and the removing is done after that.
func (c *Catalog) Collect(ctx context.Context) error {
	c.collect.Store(true)
	return c.collectIfFree(ctx)
}

// collectIfFree collects if that is wanted. Who holds the lock calls it once it is
// free again, so that no wish is lost.
func (c *Catalog) collectIfFree(ctx context.Context) error {
	for c.collect.Load() {
		select {
		case c.lock <- struct{}{}:
		default:
			return nil
		}
		c.collect.Store(false)
		err := c.removeUnneeded(ctx)
		<-c.lock
		if err != nil {
			return err
		}
	}
	return nil
}

func (c *Catalog) removeUnneeded(ctx context.Context) error {
	all, err := c.store.Images(ctx)
	if err != nil {
		return err
	}
	used := map[banger.Digest]bool{}
	for _, img := range all {
		gone, err := c.forget(ctx, img)
		if err != nil {
			return err
		}
		if !gone {
			for _, a := range artifactsOf(img) {
				used[a.Digest] = true
			}
		}
	}
	blobs, temps, err := c.blobs.leftovers(used)
	for _, d := range blobs {
		// The stamp first: one without a file would pass for nothing anyway.
		err = errors.Join(err, c.store.DeleteStamp(ctx, d), c.blobs.remove(d))
	}
	for _, t := range temps {
		err = errors.Join(err, os.Remove(t))
	}
	return err
}

// forget deletes a nameless image that no VM uses, and reports whether it did.
func (c *Catalog) forget(ctx context.Context, img banger.Image) (bool, error) {
	if img.Name != "" {
		return false, nil
	}
	err := c.store.DeleteImage(ctx, img.ID)
	if banger.CodeOf(err) == banger.WrongState {
		return false, nil
	}
	return err == nil, err
}
