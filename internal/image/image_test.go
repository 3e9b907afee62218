package image_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"banger"
	"banger/internal/image"
	"banger/internal/store"
)

// reporter records the steps it hears of.
type reporter struct {
	mu    sync.Mutex
	steps []string
}

func (r *reporter) Step(name string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.steps = append(r.steps, name)
}
func (r *reporter) StepDone(string, time.Duration) {}
func (r *reporter) Progress(string, int64, int64)  {}
func (r *reporter) Message(string, ...any)         {}

// bundles finds one bundle, or none.
type bundles struct {
	found *banger.Bundle
}

func (b *bundles) Find(named string) (banger.Bundle, error) {
	if b.found == nil || named != "" && named != b.found.Dir {
		return banger.Bundle{}, banger.Errorf(banger.NotFound, "no runtime bundle; looked in /a, /b")
	}
	return *b.found, nil
}

type world struct {
	*image.Catalog
	store   *store.Store
	blobs   string
	bundles *bundles
}

func newWorld(t *testing.T, shared bool) *world {
	t.Helper()
	dir := t.TempDir()
	s, err := store.Open(t.Context(), filepath.Join(dir, "banger.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	w := &world{store: s, blobs: filepath.Join(dir, "blobs"), bundles: &bundles{}}
	if err := os.Mkdir(w.blobs, 0o700); err != nil {
		t.Fatal(err)
	}
	w.Catalog = image.New(s, w.bundles, w.blobs, shared, time.Now)
	return w
}

// newBundle writes a bundle whose files hold what flavour says.
func newBundle(t *testing.T, flavour string) banger.Bundle {
	t.Helper()
	b := banger.Bundle{Dir: t.TempDir(), Format: banger.BundleFormat}
	for kind, name := range map[banger.ArtifactKind]string{
		banger.KindImage: "debian-12", banger.KindKernel: "cloud", banger.KindInitramfs: "cloud", banger.KindModules: "cloud",
	} {
		text := []byte(flavour + " " + string(kind))
		if err := os.WriteFile(filepath.Join(b.Dir, string(kind)), text, 0o444); err != nil {
			t.Fatal(err)
		}
		sum := sha256.Sum256(text)
		b.Artifacts = append(b.Artifacts, banger.BundleArtifact{
			Kind: kind, Name: name, File: string(kind), Size: int64(len(text)), SHA256: hex.EncodeToString(sum[:]), Default: true, Release: "6.1",
		})
	}
	return b
}

func (w *world) register(t *testing.T, b banger.Bundle) (banger.Image, []string) {
	t.Helper()
	r := &reporter{}
	img, err := w.Register(t.Context(), b, "", r)
	if err != nil {
		t.Fatal(err)
	}
	return img, r.steps
}

// useIn stores a VM made from img.
func (w *world) useIn(t *testing.T, img banger.Image, name string) {
	t.Helper()
	r := banger.Record{
		ID:      "0000000a",
		Spec:    banger.Spec{Name: name, Image: img.Name, CPUs: 1, Memory: 1, Disk: 1, Network: banger.NetworkUser, NAT: banger.NATWanted, Backend: "qemu"},
		ImageID: img.ID, HostKey: "key", Intent: banger.IntentStopped, CreatedAt: time.Now(),
	}
	lease := banger.Lease{Addr: netip.MustParseAddr("10.0.0.2"), MAC: "02:00:00:00:00:01", MachineID: strings.Repeat("a", 32)}
	if _, err := w.store.CreateVM(t.Context(), r, func([]banger.Lease) (banger.Lease, error) { return lease, nil }); err != nil {
		t.Fatal(err)
	}
}

func (w *world) blobNames(t *testing.T) []string {
	t.Helper()
	entries, err := os.ReadDir(w.blobs)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func wantCode(t *testing.T, err error, code banger.Code, words ...string) {
	t.Helper()
	if banger.CodeOf(err) != code {
		t.Fatalf("error %v has code %q, want %q", err, banger.CodeOf(err), code)
	}
	e := banger.AsError(err)
	for _, word := range words {
		if !strings.Contains(e.Message+"\n"+e.Remedy, word) {
			t.Errorf("error %q, remedy %q: no %q", e.Message, e.Remedy, word)
		}
	}
}

func canceled() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}
