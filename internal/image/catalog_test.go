package image_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"banger"
)

func TestFilesHashesAgainWhatLooksDifferent(t *testing.T) {
	w, b := newWorld(t, false), newBundle(t, "one")
	img, _ := w.register(t, b)
	files, err := w.Files(t.Context(), img)
	if err != nil {
		t.Fatal(err)
	}
	before, _, _ := w.store.Stamp(t.Context(), img.Rootfs.Digest)
	if err := os.Chtimes(files.Rootfs, time.Now(), time.Unix(1, 0)); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Files(t.Context(), img); err != nil {
		t.Fatalf("touched, not changed: %v", err)
	}
	after, _, _ := w.store.Stamp(t.Context(), img.Rootfs.Digest)
	if after == before {
		t.Error("its new looks were not stored: it would be hashed at every start")
	}
	// Same size and mtime: the ctime gives it away.
	if err := os.Chmod(files.Rootfs, 0o600); err != nil {
		t.Fatal(err)
	}
	write(t, files.Rootfs, "two image")
	if err := os.Chtimes(files.Rootfs, time.Now(), time.Unix(1, 0)); err != nil {
		t.Fatal(err)
	}
	w.useIn(t, img, "web")
	_, err = w.Files(t.Context(), img)
	wantCode(t, err, banger.HostUnready, "root file system", "has changed", "banger vm delete web")
}

func TestFilesMissing(t *testing.T) {
	w, b := newWorld(t, false), newBundle(t, "one")
	img, _ := w.register(t, b)
	if err := os.Remove(filepath.Join(w.blobs, img.Modules.Digest.Hex())); err != nil {
		t.Fatal(err)
	}
	_, err := w.Files(t.Context(), img)
	wantCode(t, err, banger.HostUnready, "modules is missing", "banger bundle build")

	// A bundle that has the very same file mends it, a rebuilt one does not.
	other := newBundle(t, "two")
	w.bundles.found = &other
	_, err = w.Files(t.Context(), img)
	wantCode(t, err, banger.HostUnready, "modules is missing")
	w.bundles.found = &b
	files, err := w.Files(t.Context(), img)
	if err != nil {
		t.Fatal(err)
	}
	if text, err := os.ReadFile(files.Modules); err != nil || string(text) != "one modules" {
		t.Errorf("%q, %v", text, err)
	}

	// Nor does one whose file is not what its manifest says.
	if err := os.Remove(files.Modules); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Join(b.Dir, "modules"), 0o600); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(b.Dir, "modules"), "bad modules")
	_, err = w.Files(t.Context(), img)
	wantCode(t, err, banger.HostUnready, "modules is missing")
}

func TestCollectKeepsWhatAVMNeeds(t *testing.T) {
	w := newWorld(t, false)
	old, _ := w.register(t, newBundle(t, "one"))
	w.useIn(t, old, "web")
	w.register(t, newBundle(t, "two"))
	stray := filepath.Join(w.blobs, "README")
	for _, name := range []string{stray, filepath.Join(w.blobs, ".new-0"), filepath.Join(w.blobs, ".reflink-0")} {
		write(t, name, "")
	}
	if err := w.Collect(t.Context()); err != nil {
		t.Fatal(err)
	}
	if names := w.blobNames(t); len(names) != 9 { // two images, and what is not ours
		t.Errorf("blobs %q", names)
	}
	if _, err := w.Files(t.Context(), old); err != nil {
		t.Errorf("the image of a VM: %v", err)
	}
	if err := w.store.DeleteVM(t.Context(), "0000000a"); err != nil {
		t.Fatal(err)
	}
	if err := w.Collect(t.Context()); err != nil {
		t.Fatal(err)
	}
	if names := w.blobNames(t); len(names) != 5 {
		t.Errorf("blobs after the VM has gone: %q", names)
	}
	if _, ok, _ := w.store.Stamp(t.Context(), old.Rootfs.Digest); ok {
		t.Error("the stamp of a removed blob is kept")
	}
}

func TestDelete(t *testing.T) {
	w := newWorld(t, false)
	img, _ := w.register(t, newBundle(t, "one"))
	w.useIn(t, img, "web")
	_, err := w.Delete(t.Context(), "debian-12")
	wantCode(t, err, banger.WrongState, "web")
	if err := w.store.DeleteVM(t.Context(), "0000000a"); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Delete(t.Context(), img.ID[:6]); err != nil {
		t.Fatal(err)
	}
	if names := w.blobNames(t); len(names) != 0 {
		t.Errorf("blobs %q", names)
	}
	_, err = w.Delete(t.Context(), "debian-12")
	wantCode(t, err, banger.NotFound)
}

func TestResolve(t *testing.T) {
	w, one, two := newWorld(t, false), newBundle(t, "one"), newBundle(t, "two")
	resolve := func(name, bundle string) (banger.Image, error) {
		return w.Resolve(t.Context(), name, bundle, &reporter{})
	}
	_, err := resolve("", "")
	wantCode(t, err, banger.NotFound, "looked in /a, /b")

	w.bundles.found = &one
	first, err := resolve("", "")
	if err != nil || first.Name != "debian-12" {
		t.Fatalf("%+v, %v", first, err)
	}
	_, err = resolve("", "/elsewhere")
	wantCode(t, err, banger.NotFound)
	_, err = resolve("fedora", "")
	wantCode(t, err, banger.NotFound, "fedora")

	w.bundles.found = &two // rebuilt
	second, err := resolve("debian-12", "")
	if err != nil || second.ID == first.ID {
		t.Fatalf("%+v, %v", second, err)
	}
	if old, err := resolve(first.ID, ""); err != nil || old.ID != first.ID || old.Name != "" {
		t.Errorf("by ID: %+v, %v", old, err)
	}

	w.bundles.found = nil // deleted: what was registered stays
	for _, name := range []string{"", "debian-12"} {
		if img, err := resolve(name, ""); err != nil || img.ID != second.ID {
			t.Errorf("%q without a bundle: %+v, %v", name, img, err)
		}
	}
}
