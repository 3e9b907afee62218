// Package image is the catalogue of images: it takes a bundle's artifacts into
// the state directory by their digests, says which image a name means, and
// hands out an image's files only when they are what was registered. It builds
// and fetches nothing, and knows bundles as data only.
package image

import (
	"context"
	"sync/atomic"
	"time"

	"banger"
)

// A Store keeps what is known about images. Its errors are *banger.Error.
type Store interface {
	// PutImage stores i; a name and a default that it has move to it from others.
	PutImage(ctx context.Context, i banger.Image) error
	Images(ctx context.Context) ([]banger.Image, error)
	// Image finds one by its name or a unique prefix of its ID; else NotFound.
	Image(ctx context.Context, ref string) (banger.Image, error)
	// DefaultImage is the one used when nobody names one; else NotFound.
	DefaultImage(ctx context.Context) (banger.Image, error)
	// ImageUsers returns the names of the VMs made from an image.
	ImageUsers(ctx context.Context, id string) ([]string, error)
	// DeleteImage forgets an image; WrongState while a VM uses it; idempotent.
	DeleteImage(ctx context.Context, id string) error

	Stamp(ctx context.Context, d banger.Digest) (s banger.FileStamp, ok bool, err error)
	PutStamp(ctx context.Context, d banger.Digest, s banger.FileStamp) error
	DeleteStamp(ctx context.Context, d banger.Digest) error // idempotent
}

// Bundles finds runtime bundles.
type Bundles interface {
	// Find opens the bundle in the directory named, or for "" where bundles are
	// looked for. None there is NotFound.
	Find(named string) (banger.Bundle, error)
}

// A Reporter hears what an operation that takes long is doing.
type Reporter interface {
	Step(name string)
	StepDone(name string, elapsed time.Duration)
	Progress(step string, done, total int64)
	Message(format string, args ...any)
}

// Files are the paths of an image's artifacts, verified.
type Files struct {
	Rootfs, Kernel, Initramfs, Modules string
	VMLinux                            string // "": the image has none
}

// A Catalog is the images of one installation. Its methods may be called by
// several goroutines at once.
type Catalog struct {
	store   Store
	bundles Bundles
	blobs   blobDir
	shared  bool // VMMs run as users of their own and must be able to read blobs
	now     func() time.Time
	lock    chan struct{} // held by what adds and removes blobs
	collect atomic.Bool   // somebody wants what nothing needs to be removed
}

// New returns the catalogue that keeps artifacts in the directory blobs, each
// named by the 64 digits of its digest. shared says that VMMs run as users of
// their own: blobs are then readable by all.
func New(store Store, bundles Bundles, blobs string, shared bool, now func() time.Time) *Catalog {
	return &Catalog{store: store, bundles: bundles, blobs: blobDir(blobs), shared: shared, now: now, lock: make(chan struct{}, 1)}
}

// List returns all images, also those whose name a newer one took.
func (c *Catalog) List(ctx context.Context) ([]banger.Image, error) { return c.store.Images(ctx) }

// Show finds an image by its name or a unique prefix of its ID.
func (c *Catalog) Show(ctx context.Context, ref string) (banger.Image, error) {
	return c.store.Image(ctx, ref)
}

// Delete forgets an image and removes the files that no other one names, as
// Collect does.
// WrongState while a VM uses it, with the names of the VMs.
func (c *Catalog) Delete(ctx context.Context, ref string) (banger.Image, error) {
	img, err := c.store.Image(ctx, ref)
	if err != nil {
		return banger.Image{}, err
	}
	if err := c.store.DeleteImage(ctx, img.ID); err != nil {
		return banger.Image{}, err
	}
	return img, c.Collect(ctx)
}

func (c *Catalog) acquire(ctx context.Context) error {
	select {
	case c.lock <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// release also does what was asked for meanwhile. What fails is left to the next
// Collect: nobody here waits for it.
func (c *Catalog) release() {
	<-c.lock
	_ = c.collectIfFree(context.Background())
}
