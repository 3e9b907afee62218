package banger

import "time"

// A Bundle is a directory of artifacts that boot VMs, and the manifest
// (bundle.json) that names each with its digest and origin. It is never
// changed in place: a new one is made aside and renamed over it.
type Bundle struct {
	Dir       string           `json:"-"`      // absolute; where the manifest was read
	Format    int              `json:"format"` // BundleFormat
	CreatedAt time.Time        `json:"created_at"`
	Builder   string           `json:"builder"` // the build of banger that made it
	Artifacts []BundleArtifact `json:"artifacts"`
}

// BundleFormat is the manifest's format number; another one is refused.
const BundleFormat = 1

// BundleManifest is the manifest's file name.
const BundleManifest = "bundle.json"

// A BundleArtifact is one file of a bundle.
type BundleArtifact struct {
	Kind       ArtifactKind `json:"kind"`
	Name       string       `json:"name"`              // unique within its kind
	File       string       `json:"file"`              // base name, in the bundle's directory
	Size       int64        `json:"size_bytes"`        // apparent size
	SHA256     string       `json:"sha256"`            // 64 hex digits
	Default    bool         `json:"default"`           // of its kind: exactly one
	Release    string       `json:"release,omitempty"` // kernel, initramfs, modules: as uname -r says; image: of the kernel it is booted with
	OS         string       `json:"os,omitempty"`      // image: PRETTY_NAME of its os-release
	Provenance Provenance   `json:"provenance"`
}

// Provenance says where an artifact came from.
type Provenance struct {
	Distribution string            `json:"distribution"` // "debian bookworm"
	Tool         string            `json:"tool"`         // what made it, with its version
	Packages     map[string]string `json:"packages"`     // name to version of every package in it
}

type ArtifactKind string

const (
	KindKernel    ArtifactKind = "kernel"    // bzImage
	KindVMLinux   ArtifactKind = "vmlinux"   // the same kernel as an ELF file; bundles of older builds lack it
	KindInitramfs ArtifactKind = "initramfs" // modules that banger-guest loads
	KindModules   ArtifactKind = "modules"   // read-only image of all other modules
	KindImage     ArtifactKind = "image"     // raw ext4
)

// A FileStamp is what a file looked like when its digest was last computed: as
// long as nothing here has changed, neither has the content. Ctime cannot be
// set by its owner.
type FileStamp struct {
	Size  int64
	Inode uint64
	Mtime int64 // nanoseconds since 1970
	Ctime int64 // nanoseconds since 1970
}
