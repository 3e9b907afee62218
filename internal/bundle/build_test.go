package bundle_test

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"banger"
	"banger/internal/bundle"
	"banger/internal/host"
)

func TestBuild(t *testing.T) {
	b, _, out := builder(t)
	for range 2 { // the second replaces the first
		made, err := b.Build(t.Context(), out, silent{})
		if err != nil {
			t.Fatal(err)
		}
		if err := bundle.Verify(t.Context(), made, silent{}); err != nil {
			t.Error(err)
		}
		img := bundle.Default(made, banger.KindImage)
		if img.OS != "Debian GNU/Linux 12 (bookworm)" || img.Release != release || img.Provenance.Packages["systemd"] != "252.1" {
			t.Errorf("image %+v", img)
		}
		only(t, filepath.Dir(out), "runtime")
		only(t, out, "bundle.json", "debian-12.ext4", "initramfs.img", "modules.ext4", "vmlinux", "vmlinuz")
	}
}

func TestTreeIsNobodysMachine(t *testing.T) {
	b, p, out := builder(t)
	seen := false
	p.hook = func(tool string, args []string) {
		i := slices.Index(args, "-d")
		if tool != "mke2fs" || i < 0 || !strings.HasSuffix(args[i+1], "/tree") {
			return
		}
		seen = true
		tree := args[i+1]
		for name, want := range map[string]string{"etc/hostname": "debian\n", "etc/machine-id": "", "etc/default/locale": "LANG=C.UTF-8\n"} {
			if got, err := os.ReadFile(filepath.Join(tree, name)); err != nil || string(got) != want {
				t.Errorf("%s: %q, %v", name, got, err)
			}
		}
		for _, name := range []string{"etc/ssh/ssh_host_rsa_key", "etc/resolv.conf", "etc/dpkg/dpkg.cfg.d/99mmdebstrap"} {
			if _, err := os.Lstat(filepath.Join(tree, name)); err == nil {
				t.Errorf("%s is in the image", name)
			}
		}
		if to, err := os.Readlink(filepath.Join(tree, "etc/systemd/system/getty.target")); to != "/dev/null" {
			t.Errorf("getty.target: %q, %v", to, err)
		}
	}
	if _, err := b.Build(t.Context(), out, silent{}); err != nil || !seen {
		t.Errorf("image made: %v, %v", seen, err)
	}
}

// bangerd's umask is 077: what it writes for others to read must not depend
// on that.
func TestModesAreNotTheUmasks(t *testing.T) {
	defer syscall.Umask(syscall.Umask(0o077))
	b, p, out := builder(t)
	p.hook = func(tool string, args []string) {
		i := slices.Index(args, "-d")
		if tool != "mke2fs" || i < 0 || !strings.HasSuffix(args[i+1], "/tree") {
			return
		}
		for name, want := range map[string]fs.FileMode{
			"etc/hosts": 0o644, "etc/systemd/system/ssh.service.d": fs.ModeDir | 0o755, "var/.updated": 0o644, "lib/modules/" + release: fs.ModeDir | 0o755,
		} {
			if st, err := os.Stat(filepath.Join(args[i+1], name)); err != nil || st.Mode() != want {
				t.Errorf("%s: %v, %v", name, st, err)
			}
		}
	}
	made, err := b.Build(t.Context(), out, silent{})
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range append(made.Artifacts, banger.BundleArtifact{File: banger.BundleManifest}) {
		if st, err := os.Stat(filepath.Join(out, a.File)); err != nil || st.Mode() != 0o444 {
			t.Errorf("%s: %v, %v", a.File, st.Mode(), err)
		}
	}
}

func TestBuildThatFailsLeavesWhatWas(t *testing.T) {
	for _, tool := range []string{"mmdebstrap", "dpkg-deb", "chroot", "dpkg-query", "mke2fs"} {
		t.Run(tool, func(t *testing.T) {
			b, p, out := builder(t)
			old, err := b.Build(t.Context(), out, silent{})
			if err != nil {
				t.Fatal(err)
			}
			broken := errors.New("broken")
			p.hook = func(run string, args []string) {
				if run == tool && !slices.Contains(args, "--version") && !slices.Contains(args, "-V") {
					p.fail[tool] = broken
				}
			}
			if _, err := b.Build(t.Context(), out, silent{}); !errors.Is(err, broken) {
				t.Errorf("error %v", err)
			}
			only(t, filepath.Dir(out), "runtime")
			if err := bundle.Verify(t.Context(), old, silent{}); err != nil {
				t.Errorf("the old bundle: %v", err)
			}
		})
	}
}

func TestCancelledBuildLeavesNothing(t *testing.T) {
	b, p, out := builder(t)
	ctx, cancel := context.WithCancel(t.Context())
	p.hook = func(tool string, _ []string) {
		if tool == "chroot" {
			cancel()
		}
	}
	_, err := b.Build(ctx, out, silent{})
	wantCode(t, err, banger.Canceled)
	only(t, filepath.Dir(out))
}

// Directories that were made for the output go with a build that fails; they
// stay with one that does not.
func TestParentsOfTheOutput(t *testing.T) {
	b, p, out := builder(t)
	deep := filepath.Join(filepath.Dir(out), "a", "b", "runtime")
	p.hook = func(tool string, _ []string) {
		if tool == "chroot" { // in the middle of it
			p.fail["mke2fs"] = errors.New("broken")
		}
	}
	if _, err := b.Build(t.Context(), deep, silent{}); err == nil {
		t.Fatal("built")
	}
	only(t, filepath.Dir(out))
	p.hook, p.fail = nil, map[string]error{}
	if _, err := b.Build(t.Context(), deep, silent{}); err != nil {
		t.Fatal(err)
	}
	only(t, filepath.Dir(deep), "runtime")
}

func TestBuildAfterAKilledOne(t *testing.T) {
	b, _, out := builder(t)
	left := filepath.Join(filepath.Dir(out), ".runtime.new/tree/etc")
	if err := os.MkdirAll(left, 0o755); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(left, "passwd"), "")
	if _, err := b.Build(t.Context(), out, silent{}); err != nil {
		t.Fatal(err)
	}
	only(t, filepath.Dir(out), "runtime")
}

func TestTwoBuildsAtOnce(t *testing.T) {
	b, p, out := builder(t)
	p.hook = func(tool string, _ []string) {
		if tool != "chroot" {
			return
		}
		other, _, _ := builder(t)
		_, err := other.Build(t.Context(), out, silent{})
		wantCode(t, err, banger.Busy, filepath.Dir(out))
	}
	if _, err := b.Build(t.Context(), out, silent{}); err != nil {
		t.Fatal(err)
	}
}

func TestBuildReplacesOnlyBundles(t *testing.T) {
	b, p, out := builder(t)
	write(t, out, "a file")
	_, err := b.Build(t.Context(), out, silent{})
	wantCode(t, err, banger.Exists, out, "--output")
	_, err = b.Build(t.Context(), filepath.Dir(out), silent{})
	wantCode(t, err, banger.Exists)
	_, err = b.Build(t.Context(), "runtime", silent{})
	wantCode(t, err, banger.Invalid, "not absolute")
	if len(p.runs) != 0 {
		t.Errorf("ran %q", p.runs)
	}
}

func TestHostUnready(t *testing.T) {
	b, p, out := builder(t)
	for _, tool := range []string{"mmdebstrap", "newuidmap", "mke2fs"} {
		p.fail = map[string]error{tool: banger.Errorf(banger.HostUnready, "%s is not installed", tool)}
		_, err := b.Build(t.Context(), out, silent{})
		wantCode(t, err, banger.HostUnready, tool)
	}
	p.fail, b.User = map[string]error{}, "al"
	_, err := b.Build(t.Context(), out, silent{})
	wantCode(t, err, banger.HostUnready, "sudo usermod --add-subuids 100000-165535 --add-subgids 100000-165535 al")
	b.UID = 0 // root needs no range
	if _, err := b.Build(t.Context(), out, silent{}); err != nil {
		t.Error(err)
	}
}

func TestNoNamespaces(t *testing.T) {
	b, p, out := builder(t)
	runs := 0
	p.hook = func(tool string, _ []string) {
		if tool == "mmdebstrap" {
			if runs++; runs == 2 { // the first looks for it only
				p.fail[tool] = &host.ExitError{Argv: []string{"unshare"}, Code: 1, Stderr: "unshare failed: Operation not permitted"}
			}
		}
	}
	_, err := b.Build(t.Context(), out, silent{})
	wantCode(t, err, banger.HostUnready, "Operation not permitted", "sysctl user.max_user_namespaces")
	only(t, filepath.Dir(out))
}

func TestGrants(t *testing.T) {
	for line, want := range map[string]bool{
		"jo:100000:65536":   true,
		"1000:100000:65536": true,
		"jo:100000:1000":    false,
		"joe:100000:65536":  false,
		"jo:100000":         false,
		"jo:1:-1":           false,
		"":                  false,
	} {
		if got := bundle.Grants(line, "jo", 1000); got != want {
			t.Errorf("%q: %v", line, got)
		}
	}
}

func TestVerify(t *testing.T) {
	b, _, out := builder(t)
	made, err := b.Build(t.Context(), out, silent{})
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(out, "modules.ext4")
	for _, spoil := range []func() error{
		func() error { return errors.Join(os.Chmod(name, 0o644), os.WriteFile(name, []byte("file systen"), 0)) },
		func() error { return os.Truncate(name, 3) },
		func() error { return os.Remove(name) },
	} {
		if err := spoil(); err != nil {
			t.Fatal(err)
		}
		wantCode(t, bundle.Verify(t.Context(), made, silent{}), banger.HostUnready, name, "banger bundle build --output "+out)
	}
}
