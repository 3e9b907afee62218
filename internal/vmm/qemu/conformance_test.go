package qemu_test

import (
	"bytes"
	"context"
	"encoding/json"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"banger"
	"banger/internal/host"
	"banger/internal/network/usernet/passt"
	"banger/internal/vmm"
	"banger/internal/vmm/kvm"
	"banger/internal/vmm/qemu"
	"banger/internal/vmm/vmmtest"
)

// TestConformance boots real guests. It needs QEMU and a runtime bundle; no
// root and no KVM.
func TestConformance(t *testing.T) {
	dir := os.Getenv("BANGER_RUNTIME_DIR")
	if dir == "" {
		t.Skip("boots VMs: set BANGER_RUNTIME_DIR to a runtime bundle (make test does)")
	}
	b := readBundle(t, dir)
	bench := vmmtest.Bench{
		New: newBackend, Root: overlay, Owner: vmmtest.Owner(),
		Kernel: b[banger.KindKernel], Modules: b[banger.KindModules],
		Initrd: initrd(t, b[banger.KindInitramfs]),
	}
	t.Run("own stack", func(t *testing.T) { vmmtest.Run(t, bench) })
	t.Run("passt", func(t *testing.T) {
		if _, err := exec.LookPath("passt"); err != nil {
			t.Skip("passt is not installed: apt install passt")
		}
		bench.Net = byPasst
		vmmtest.Run(t, bench)
	})
}

// byPasst is a network made by a passt that ends with the VMM, or the test.
func byPasst(t *testing.T, addr netip.Addr, dir string) banger.Endpoint {
	t.Helper()
	w, err := host.NewWatcher()
	if err != nil {
		t.Fatal(err)
	}
	p := passt.New(host.New(os.Getenv("PATH")), w, os.Geteuid())
	at := passt.Place{Socket: filepath.Join(dir, "net.sock"), Mark: filepath.Join(dir, "net.pid"), Log: filepath.Join(dir, "net.log"), Owner: vmmtest.Owner()}
	n := passt.Net{Addr: addr, Gateway: addr.Prev().Prev(), Resolver: addr.Prev(), Bits: 20}
	if _, err := p.Start(t.Context(), n, at); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Clear(context.Background(), at); err != nil {
			t.Error(err)
		}
		if err := w.Close(); err != nil {
			t.Error(err)
		}
	})
	return banger.Endpoint{Socket: at.Socket}
}

func newBackend(t *testing.T) vmm.Backend {
	t.Helper()
	return backendOn(t, os.Getenv("PATH"))
}

func backendOn(t *testing.T, path string) *qemu.Backend {
	t.Helper()
	w, err := host.NewWatcher()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := w.Close(); err != nil {
			t.Error(err)
		}
	})
	return qemu.New(host.New(path), w, kvm.New(os.Geteuid(), nil), os.Geteuid(), time.Now)
}

// readBundle returns the paths of the default artifact of each kind.
func readBundle(t *testing.T, dir string) map[banger.ArtifactKind]string {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(dir, banger.BundleManifest))
	if err != nil {
		t.Fatal(err)
	}
	var b banger.Bundle
	if err := json.Unmarshal(raw, &b); err != nil {
		t.Fatal(err)
	}
	paths := map[banger.ArtifactKind]string{}
	for _, a := range b.Artifacts {
		if a.Default {
			paths[a.Kind] = filepath.Join(dir, a.File)
		}
	}
	return paths
}

// overlay is a root disk as the overlay strategy makes it.
func overlay(t *testing.T, dir string) vmm.Disk {
	t.Helper()
	base, path := filepath.Join(filepath.Dir(dir), "base.raw"), filepath.Join(dir, "disk.qcow2")
	f, err := os.Create(base)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Truncate(64 << 20); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", base, path).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if o := vmmtest.Owner(); o != nil {
		if err := os.Chown(path, int(o.UID), int(o.GID)); err != nil {
			t.Fatal(err)
		}
	}
	return vmm.Disk{Path: path, Format: banger.FormatQCOW2}
}

// initrd builds the suite's guest and joins it with a bundle's modules.
func initrd(t *testing.T, base string) string {
	t.Helper()
	// Not t.TempDir: VMMs of other users read it.
	dir, err := os.MkdirTemp("", "vmmtest")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o711); err != nil {
		t.Fatal(err)
	}
	built := os.Getenv("BANGER_TEST_GUEST") // where there is no Go
	if built == "" {
		built = filepath.Join(dir, "init")
		write(t, filepath.Join(dir, "main.go"), vmmtest.GuestSource)
		build := exec.Command("go", "build", "-ldflags=-s -w", "-o", "init", "main.go")
		build.Dir = dir
		build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=", "GOWORK=off", "GO111MODULE=off")
		if out, err := build.CombinedOutput(); err != nil {
			t.Fatalf("build the guest: %v\n%s", err, out)
		}
	}
	guest, err := os.ReadFile(built)
	if err != nil {
		t.Fatal(err)
	}
	modules, err := os.ReadFile(base)
	if err != nil {
		t.Fatal(err)
	}
	var joined bytes.Buffer
	if err := vmmtest.Initrd(&joined, guest, bytes.NewReader(modules)); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "initrd")
	write(t, path, joined.String())
	return path
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}
