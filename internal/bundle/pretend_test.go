package bundle_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"banger/internal/bundle"
	"banger/internal/host"
)

const release = "6.1.0-1-cloud-amd64"

// pretend is a host whose tools leave the files that the real ones would. It
// fails the test for a tool it does not know.
type pretend struct {
	t    *testing.T
	runs []string
	fail map[string]error                 // by tool: fails instead
	hook func(tool string, args []string) // called before each
}

func (p *pretend) Run(ctx context.Context, c host.Cmd) ([]byte, error) {
	tool, args := c.Tool, c.Args
	if i := slices.Index(args, "--"); tool == "unshare" && i >= 0 {
		tool, args = args[i+1], args[i+2:]
	}
	if p.hook != nil {
		p.hook(tool, args)
	}
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	p.runs = append(p.runs, tool)
	if err := p.fail[tool]; err != nil {
		return nil, err
	}
	last := ""
	if len(args) > 0 {
		last = args[len(args)-1]
	}
	switch tool {
	case "mmdebstrap":
		if last == "--version" {
			return []byte("mmdebstrap 1.3.5\n"), nil
		}
		p.bootstrap(c, args)
	case "dpkg-deb":
		if args[0] == "-W" {
			return []byte("linux-image-" + release + " 6.1.1-1"), nil
		}
		if args[0] == "-x" {
			p.unpack(last)
		}
	case "dpkg-query":
		return []byte("bash 5.2-1\nsystemd 252.1\n"), nil
	case "mke2fs":
		if len(args) > 1 {
			p.put(args[len(args)-2], "file system")
		}
	case "rm":
		if err := os.RemoveAll(last); err != nil {
			return nil, err
		}
	case "unshare", "chroot", "apt-get", "apt-config", "newuidmap":
	default:
		p.t.Errorf("unknown tool %s %q", tool, args)
	}
	return nil, nil
}

func (p *pretend) bootstrap(c host.Cmd, args []string) {
	tree := args[slices.Index(args, "bookworm")+1]
	p.put(tree+"/etc/shadow", "root:*:1::::::\n")
	p.put(tree+"/etc/ssh/ssh_host_rsa_key", "everybody's")
	for _, dir := range []string{"/lib", "/etc/default", "/etc/apt/apt.conf.d", "/etc/systemd/system", "/var"} {
		if err := os.MkdirAll(tree+dir, 0o755); err != nil {
			p.t.Error(err)
		}
	}
	p.put(tree+"/etc/dpkg/dpkg.cfg.d/99mmdebstrap", "force-unsafe-io\n")
	p.put(tree+"/usr/lib/os-release", "PRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\n")
	p.put(tree+"/var/lib/dpkg/status", "")
	if err := os.Symlink("/etc/passwd", tree+"/etc/hostname"); err != nil {
		p.t.Error(err)
	}
	for _, e := range c.Env {
		if dir, ok := strings.CutPrefix(e, "BANGER_KERNEL_DIR="); ok {
			p.put(dir+"/linux-image.deb", "")
		}
	}
}

func (p *pretend) unpack(root string) {
	modules := root + "/lib/modules/" + release
	p.put(root+"/boot/vmlinuz-"+release, bzImage())
	p.put(modules+"/modules.builtin", "")
	p.put(modules+"/modules.dep", "virtio_mmio.ko:\nvirtio_blk.ko:\nvirtio_net.ko:\n")
	for _, m := range []string{"mmio", "blk", "net"} {
		p.put(modules+"/virtio_"+m+".ko", m)
	}
}

func (p *pretend) put(name, text string) {
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		p.t.Error(err)
	}
	if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
		p.t.Error(err)
	}
}

type silent struct{}

func (silent) Step(string)                    {}
func (silent) StepDone(string, time.Duration) {}
func (silent) Progress(string, int64, int64)  {}
func (silent) Message(string, ...any)         {}

func builder(t *testing.T) (*bundle.Builder, *pretend, string) {
	dir := t.TempDir()
	for _, name := range []string{"subuid", "subgid"} {
		write(t, filepath.Join(dir, name), "jo:100000:65536\n")
	}
	p := &pretend{t: t, fail: map[string]error{}}
	b := &bundle.Builder{
		Runner: p, Version: "v1", UID: 1000, User: "jo",
		SubUIDFile: filepath.Join(dir, "subuid"), SubGIDFile: filepath.Join(dir, "subgid"), Now: time.Now,
	}
	return b, p, filepath.Join(t.TempDir(), "runtime")
}

func only(t *testing.T, dir string, names ...string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range entries {
		got = append(got, e.Name())
	}
	if fmt.Sprint(got) != fmt.Sprint(names) {
		t.Errorf("%s holds %q, want %q", dir, got, names)
	}
}
