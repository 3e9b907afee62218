// Package storage is the contract for root disks: Strategy, and Choose among
// several. It knows no strategy; its children do.
package storage

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"banger"
)

// A Base is a read-only image, verified by whoever hands it in.
type Base struct {
	Path string // raw
	Size int64  // bytes
}

// A Disk is one VM's private root disk.
type Disk struct {
	VM    banger.VMID
	Dir   string // the VM's directory; the strategy chooses the file's name
	Size  int64  // virtual size, bytes; at least the base's
	Owner *banger.Owner
}

// A Strategy gives each VM a private, writable root disk made from a base
// image. It keeps no state: what is attached is read from the kernel, by
// device UUID and backing inode. Every method is idempotent.
type Strategy interface {
	Name() string
	Format() banger.DiskFormat
	Probe(ctx context.Context, dir string) error                            // usable in dir? the error carries the remedy
	Create(ctx context.Context, base Base, d Disk) error                    // made aside, then renamed; a complete one is success
	Attach(ctx context.Context, base Base, d Disk) (path string, err error) // what the VMM opens; NotFound when Create's file is gone
	Detach(ctx context.Context, d Disk) error                               // waits for a busy device, within ctx
	Grow(ctx context.Context, base Base, d Disk, bytes int64) error         // detached only; never shrinks
	Remove(ctx context.Context, d Disk) error                               // detached only; also what a Create that was killed left
}

// A Gauge is a Strategy whose copy-on-write store can run full.
type Gauge interface {
	Fill(ctx context.Context, d Disk) (used, total int64, err error)
}

// A Sizer is a Strategy that tells a disk's virtual size, in bytes, without
// touching it. NotFound if it has made none there.
type Sizer interface {
	Size(d Disk) (int64, error)
}

// Of returns the first of the strategies that has made d, nil if none has: a disk
// stays what it is, whatever Choose would make today.
func Of(d Disk, in ...Strategy) Strategy {
	for _, s := range in {
		if z, ok := s.(Sizer); ok {
			if _, err := z.Size(d); banger.CodeOf(err) != banger.NotFound {
				return s
			}
		}
	}
	return nil
}

// Choose returns the first strategy that works in dir and whose format the
// backend boots. Its error says why each one was refused and what to do.
func Choose(ctx context.Context, dir string, boots []banger.DiskFormat, in ...Strategy) (Strategy, error) {
	var refused []string
	var causes []error
	for _, s := range in {
		if !slices.Contains(boots, s.Format()) {
			refused = append(refused, fmt.Sprintf("%s: the backend does not boot %s", s.Name(), s.Format()))
			continue
		}
		err := s.Probe(ctx, dir)
		if err == nil {
			return s, nil
		}
		causes = append(causes, err)
		refused = append(refused, fmt.Sprintf("%s: %v", s.Name(), err))
	}
	e := banger.Errorf(banger.HostUnready, "no storage strategy works in %s (%s)", dir, strings.Join(refused, "; "))
	e.Err = errors.Join(causes...)
	var first *banger.Error
	if errors.As(e.Err, &first) {
		e.Remedy = first.Remedy
	}
	return nil, e
}
