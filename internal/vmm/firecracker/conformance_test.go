package firecracker_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"log/slog"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"

	"banger"
	"banger/internal/host"
	"banger/internal/privileged/client"
	"banger/internal/vmm"
	"banger/internal/vmm/kvm"
	"banger/internal/vmm/vmmtest"
)

// TestConformance boots real guests. It needs Firecracker, KVM that works, a
// runtime bundle and the right to make taps: root's, or sudo's.
func TestConformance(t *testing.T) {
	dir := os.Getenv("BANGER_RUNTIME_DIR")
	if dir == "" {
		t.Skip("SKIPPED: boots VMs: set BANGER_RUNTIME_DIR to a runtime bundle")
	}
	startRoot(t)
	if _, err := newBackend(t).Probe(t.Context()); err != nil {
		if os.Getenv("BANGER_TEST_LAB") != "" {
			t.Fatalf("Firecracker must run here: %v", err)
		}
		t.Skipf("SKIPPED: Firecracker cannot run here: %v", err)
	}
	b := readBundle(t, dir)
	vmlinux := b[banger.KindVMLinux]
	if v := os.Getenv("BANGER_TEST_VMLINUX"); v != "" {
		vmlinux = v
	}
	vmmtest.Run(t, vmmtest.Bench{
		New: newBackend, Root: rawDisk, Owner: realOwner(t), Net: tap,
		Kernel: b[banger.KindKernel], VMLinux: vmlinux, Modules: b[banger.KindModules],
		Initrd: initrd(t, b[banger.KindInitramfs]),
	})
}

func newBackend(t *testing.T) vmm.Backend {
	t.Helper()
	return backendWith(t, host.New(os.Getenv("PATH")), kvm.New(os.Geteuid(), granter()), slog.New(slog.NewTextHandler(t.Output(), nil)))
}

// granter is the banger-root that BANGER_TEST_ROOT names, for who may not open
// /dev/kvm; nil without one.
func granter() kvm.Granter {
	if os.Getenv("BANGER_TEST_ROOT") == "" || os.Geteuid() == 0 {
		return nil
	}
	return root{}
}

// startRoot has that banger-root run until the test ends.
func startRoot(t *testing.T) {
	if granter() == nil {
		return
	}
	if out, err := exec.Command("sudo", "-n", os.Getenv("BANGER_TEST_ROOT")).CombinedOutput(); err != nil {
		t.Fatalf("start banger-root: %v: %s", err, out)
	}
	t.Cleanup(func() {
		if err := (root{}).ask(context.Background(), func(c *client.Client) error { return c.Exit(context.Background()) }); err != nil {
			t.Error(err)
		}
	})
}

type root struct{}

func (r root) AllowKVM(ctx context.Context) error {
	return r.ask(ctx, func(c *client.Client) error { return c.AllowKVM(ctx) })
}

func (r root) RevokeKVM(ctx context.Context) error {
	return r.ask(ctx, func(c *client.Client) error { return c.RevokeKVM(ctx) })
}

func (root) ask(ctx context.Context, what func(*client.Client) error) error {
	c, err := client.Dial(ctx, os.Geteuid())
	if err != nil {
		return err
	}
	return errors.Join(what(c), c.Close())
}

// realOwner is owner with the group that may open /dev/kvm.
func realOwner(t *testing.T) *banger.Owner {
	t.Helper()
	o := vmmtest.Owner()
	if o == nil {
		return nil
	}
	fi, err := os.Stat("/dev/kvm")
	if err != nil {
		t.Fatal(err)
	}
	if st := fi.Sys().(*syscall.Stat_t); st.Mode&0o060 == 0o060 && st.Gid != 0 {
		o.Groups = []uint32{st.Gid}
	}
	return o
}

// tap makes a tap that the VMM's user may open, until the test ends.
func tap(t *testing.T, _ netip.Addr, _ string) banger.Endpoint {
	t.Helper()
	b := make([]byte, 4)
	rand.Read(b) // never fails
	name, uid := "vt"+hex.EncodeToString(b), os.Geteuid()
	if o := vmmtest.Owner(); o != nil {
		uid = int(o.UID)
	}
	ip(t, "tuntap", "add", name, "mode", "tap", "user", strconv.Itoa(uid))
	t.Cleanup(func() { ip(t, "link", "delete", name) })
	ip(t, "link", "set", name, "up")
	return banger.Endpoint{Tap: name}
}

func ip(t *testing.T, args ...string) {
	t.Helper()
	argv := append([]string{"ip"}, args...)
	if os.Geteuid() != 0 {
		argv = append([]string{"sudo", "-n"}, argv...)
	}
	if out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput(); err != nil {
		t.Fatalf("%v: %v: %s", argv, err, out)
	}
}

func rawDisk(t *testing.T, dir string) vmm.Disk {
	t.Helper()
	path := filepath.Join(dir, "disk.raw")
	write(t, path, "")
	if err := os.Truncate(path, 64<<20); err != nil {
		t.Fatal(err)
	}
	if o := vmmtest.Owner(); o != nil {
		if err := os.Chown(path, int(o.UID), int(o.GID)); err != nil {
			t.Fatal(err)
		}
	}
	return vmm.Disk{Path: path, Format: banger.FormatRaw}
}

// readBundle returns the paths of the default artifact of each kind.
func readBundle(t *testing.T, dir string) map[banger.ArtifactKind]string {
	t.Helper()
	var b banger.Bundle
	if err := json.Unmarshal([]byte(read(t, filepath.Join(dir, banger.BundleManifest))), &b); err != nil {
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

// initrd joins the suite's guest with a bundle's modules. The guest is built, or
// where there is no Go the one that BANGER_TEST_GUEST names.
func initrd(t *testing.T, base string) string {
	t.Helper()
	// Not t.TempDir: VMMs of other users read it.
	dir := vmmtest.PublicDir(t)
	built := os.Getenv("BANGER_TEST_GUEST")
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
	var joined bytes.Buffer
	if err := vmmtest.Initrd(&joined, []byte(read(t, built)), bytes.NewReader([]byte(read(t, base)))); err != nil {
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
