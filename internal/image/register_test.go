package image_test

import (
	"crypto/sha256"
	"encoding/hex"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"banger"
)

func TestRegister(t *testing.T) {
	w, b := newWorld(t, false), newBundle(t, "one")
	img, steps := w.register(t, b)
	if len(img.ID) != 12 || img.Name != "debian-12" || !img.Default || img.Release != "6.1" || img.Source != b.Dir {
		t.Errorf("image %+v", img)
	}
	if len(steps) != 4 || len(w.blobNames(t)) != 4 {
		t.Errorf("steps %q, blobs %q", steps, w.blobNames(t))
	}
	again, steps := w.register(t, b)
	if len(steps) != 0 || again.ID != img.ID || !again.CreatedAt.Equal(img.CreatedAt) {
		t.Errorf("second time: steps %q, image %+v", steps, again)
	}
	// The blobs are the state directory's: the bundle may go.
	if err := os.RemoveAll(b.Dir); err != nil {
		t.Fatal(err)
	}
	files, err := w.Files(t.Context(), img)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		files.Rootfs: "one image", files.Kernel: "one kernel", files.Initramfs: "one initramfs", files.Modules: "one modules",
	} {
		if got, err := os.ReadFile(name); string(got) != want || err != nil {
			t.Errorf("%s holds %q: %v", name, got, err)
		}
	}
}

// A bundle may have its kernel as an ELF file, too: then the image is another one.
func TestRegisterVMLinux(t *testing.T) {
	w, b := newWorld(t, false), newBundle(t, "one")
	plain, _ := w.register(t, b)
	if f, err := w.Files(t.Context(), plain); err != nil || f.VMLinux != "" {
		t.Errorf("without: %+v, %v", f, err)
	}
	text := "one vmlinux"
	write(t, filepath.Join(b.Dir, "vmlinux"), text)
	sum := sha256.Sum256([]byte(text))
	b.Artifacts = append(b.Artifacts, banger.BundleArtifact{
		Kind: banger.KindVMLinux, Name: "cloud", File: "vmlinux", Size: int64(len(text)), SHA256: hex.EncodeToString(sum[:]), Default: true, Release: "6.1",
	})
	img, _ := w.register(t, b)
	if img.ID == plain.ID || !img.VMLinux.Digest.Valid() {
		t.Errorf("image %+v", img)
	}
	if got, err := w.Show(t.Context(), img.ID); err != nil || got.VMLinux != img.VMLinux {
		t.Errorf("recorded %+v, %v", got, err)
	}
	f, err := w.Files(t.Context(), img)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(f.VMLinux); string(got) != text {
		t.Errorf("%q, %v", got, err)
	}
	if err := w.Collect(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := len(w.blobNames(t)); n != 5 {
		t.Errorf("%d blobs after collecting", n)
	}
	b.Artifacts[len(b.Artifacts)-1].Release = "6.2"
	if _, err := w.Register(t.Context(), b, "", &reporter{}); banger.CodeOf(err) != banger.HostUnready {
		t.Errorf("of another kernel: %v", err)
	}
}

func TestRegisterTakesNothingUnverified(t *testing.T) {
	for name, spoil := range map[string]func(t *testing.T, file string){
		"missing":   func(t *testing.T, file string) {},
		"truncated": func(t *testing.T, file string) { write(t, file, "one kern") },
		"other":     func(t *testing.T, file string) { write(t, file, "0ne kernel") },
		"directory": func(t *testing.T, file string) {
			if err := os.Mkdir(file, 0o755); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			w, b := newWorld(t, false), newBundle(t, "one")
			file := filepath.Join(b.Dir, "kernel")
			if err := os.Remove(file); err != nil {
				t.Fatal(err)
			}
			spoil(t, file)
			_, err := w.Register(t.Context(), b, "", &reporter{})
			if err == nil {
				t.Fatal("it was registered")
			}
			if name != "directory" {
				wantCode(t, err, banger.HostUnready, file)
			}
			if all, _ := w.List(t.Context()); len(all) != 0 {
				t.Errorf("images: %v", all)
			}
			if err := w.Collect(t.Context()); err != nil || len(w.blobNames(t)) != 0 {
				t.Errorf("left after Collect: %q, %v", w.blobNames(t), err)
			}
		})
	}
}

func TestRegisterRefusesModulesOfAnotherKernel(t *testing.T) {
	w, b := newWorld(t, false), newBundle(t, "one")
	i := slices.IndexFunc(b.Artifacts, func(a banger.BundleArtifact) bool { return a.Kind == banger.KindModules })
	b.Artifacts[i].Release = "6.2"
	_, err := w.Register(t.Context(), b, "", &reporter{})
	wantCode(t, err, banger.HostUnready, "6.1", "6.2")
}

func TestRegisterReplacesADamagedBlob(t *testing.T) {
	w, b := newWorld(t, false), newBundle(t, "one")
	img, _ := w.register(t, b)
	files, err := w.Files(t.Context(), img)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(files.Kernel); err != nil {
		t.Fatal(err)
	}
	write(t, files.Kernel, "not a kernel")
	_, err = w.Files(t.Context(), img)
	wantCode(t, err, banger.HostUnready, "kernel", files.Kernel)
	if _, steps := w.register(t, b); !slices.Equal(steps, []string{"register kernel"}) {
		t.Errorf("steps %q", steps)
	}
	if _, err := w.Files(t.Context(), img); err != nil {
		t.Error(err)
	}
}

func TestRegistersAtOnce(t *testing.T) {
	w, one, two := newWorld(t, false), newBundle(t, "one"), newBundle(t, "two")
	var wg sync.WaitGroup
	for i := range 12 {
		b := one
		if i%2 == 1 {
			b = two
		}
		wg.Go(func() {
			if _, err := w.Register(t.Context(), b, "", &reporter{}); err != nil {
				t.Error(err)
			}
			if err := w.Collect(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	img, err := w.Show(t.Context(), "debian-12")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Files(t.Context(), img); err != nil {
		t.Error(err)
	}
	if names := w.blobNames(t); len(names) != 4 {
		t.Errorf("blobs %q", names)
	}
}

func TestBlobsOfARootDaemonAreReadableByVMMs(t *testing.T) {
	w, b := newWorld(t, true), newBundle(t, "one")
	if err := os.Chmod(filepath.Join(b.Dir, "kernel"), 0o400); err != nil {
		t.Fatal(err)
	}
	img, _ := w.register(t, b)
	files, err := w.Files(t.Context(), img)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{files.Rootfs, files.Kernel} {
		if st, err := os.Stat(name); err != nil || st.Mode().Perm() != 0o444 {
			t.Errorf("%s: %v, %v", name, st, err)
		}
	}
	if st, _ := os.Stat(filepath.Join(b.Dir, "kernel")); st.Mode().Perm() != 0o400 {
		t.Errorf("the bundle's own file has mode %v now", st.Mode())
	}
}

func TestCancelledRegisterLeavesNothing(t *testing.T) {
	w, b := newWorld(t, false), newBundle(t, "one")
	_, err := w.Register(canceled(), b, "", &reporter{})
	wantCode(t, err, banger.Canceled)
	if names := w.blobNames(t); len(names) != 0 {
		t.Errorf("blobs %q", names)
	}
}

func write(t *testing.T, file, text string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}
