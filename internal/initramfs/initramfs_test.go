package initramfs_test

import (
	"bytes"
	"compress/gzip"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
	"github.com/u-root/u-root/pkg/cpio"

	"banger/internal/guestapi"
	"banger/internal/initramfs"
)

const (
	dep = `kernel/net/core/failover.ko.zst:
kernel/drivers/virtio/virtio_ring.ko:
kernel/drivers/virtio/virtio.ko: kernel/drivers/virtio/virtio_ring.ko
kernel/drivers/virtio/virtio_mmio.ko: kernel/drivers/virtio/virtio.ko kernel/drivers/virtio/virtio_ring.ko
kernel/drivers/block/virtio_blk.ko: kernel/drivers/virtio/virtio.ko kernel/drivers/virtio/virtio_ring.ko
kernel/drivers/net/net_failover.ko.gz: kernel/net/core/failover.ko.zst
kernel/drivers/misc/pvpanic/pvpanic.ko:
kernel/drivers/misc/pvpanic/pvpanic-mmio.ko: kernel/drivers/misc/pvpanic/pvpanic.ko
kernel/drivers/net/virtio_net.ko: kernel/drivers/net/net_failover.ko.gz kernel/net/core/failover.ko.zst kernel/drivers/virtio/virtio.ko kernel/drivers/virtio/virtio_ring.ko
`
	builtin = "kernel/fs/ext4/ext4.ko\nkernel/drivers/char/hw_random/rng-core.ko\n"
)

var order = []string{"virtio_ring.ko", "virtio.ko", "virtio_mmio.ko", "virtio_blk.ko", "failover.ko", "net_failover.ko", "virtio_net.ko", "pvpanic.ko", "pvpanic-mmio.ko"}

// tree makes a /lib/modules/RELEASE in which each module holds its own name.
func tree(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	write := func(name string, content []byte) {
		file := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, content, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("modules.dep", []byte(dep))
	write("modules.builtin", []byte(builtin))
	for line := range strings.Lines(dep) {
		file, _, _ := strings.Cut(line, ":")
		content := []byte(strings.TrimSuffix(strings.TrimSuffix(filepath.Base(file), ".zst"), ".gz"))
		var b bytes.Buffer
		switch filepath.Ext(file) {
		case ".gz":
			z := gzip.NewWriter(&b)
			z.Write(content)
			z.Close()
			content = b.Bytes()
		case ".zst":
			z, _ := zstd.NewWriter(&b)
			z.Write(content)
			z.Close()
			content = b.Bytes()
		}
		write(file, content)
	}
	return dir
}

// unpack reads an archive with somebody else's reader.
func unpack(t *testing.T, archive []byte) map[string]cpio.Record {
	t.Helper()
	records, err := cpio.ReadAllRecords(cpio.Newc.Reader(bytes.NewReader(archive)))
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]cpio.Record{}
	for _, r := range records {
		files[r.Name] = r
	}
	return files
}

func content(t *testing.T, r cpio.Record) string {
	t.Helper()
	if r.ReaderAt == nil {
		t.Fatalf("%q is not there", r.Name)
	}
	b, err := io.ReadAll(io.NewSectionReader(r, 0, int64(r.FileSize)))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestBase(t *testing.T) {
	dir := tree(t)
	var first, second bytes.Buffer
	for _, w := range []io.Writer{&first, &second} {
		if err := initramfs.BaseFromTree(w, dir, "6.1.0-test"); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(first.Bytes(), second.Bytes()) {
		t.Error("two runs over the same tree differ")
	}
	z, err := zstd.NewReader(&first)
	if err != nil {
		t.Fatal(err)
	}
	defer z.Close()
	raw, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	files := unpack(t, raw)
	if got := content(t, files[guestapi.ReleasePath]); got != "6.1.0-test\n" {
		t.Errorf("release is %q", got)
	}
	list := strings.Fields(content(t, files[guestapi.ModulesListPath]))
	if len(list) != len(order) {
		t.Fatalf("list is %q", list)
	}
	for i, name := range list {
		if got := content(t, files[name]); got != order[i] {
			t.Errorf("module %d is %q with content %q, want %q", i, name, got, order[i])
		}
	}
}

func TestJoin(t *testing.T) {
	for _, size := range []int{0, 1, 2, 3, 4, 4097} {
		identity := bytes.Repeat([]byte("i"), size)
		guest := bytes.Repeat([]byte("g"), size+1)
		var out bytes.Buffer
		if err := initramfs.Join(&out, identity, bytes.NewReader(guest), strings.NewReader("BASE")); err != nil {
			t.Fatal(err)
		}
		raw := out.Bytes()
		second := bytes.Index(raw, []byte("TRAILER!!!")) + len("TRAILER!!!")
		second += bytes.Index(raw[second:], []byte("070701"))
		if second%4 != 0 {
			t.Errorf("size %d: the second archive begins at %d", size, second)
		}
		base := bytes.Index(raw, []byte("BASE"))
		if base%4 != 0 || base+4 != len(raw) {
			t.Errorf("size %d: base at %d of %d", size, base, len(raw))
		}
		files := unpack(t, raw[:second])
		if r := files[guestapi.IdentityPath]; content(t, r) != string(identity) || r.Mode != 0o100600 {
			t.Errorf("size %d: identity differs, mode %o", size, r.Mode)
		}
		files = unpack(t, raw[second:base])
		if r := files["init"]; content(t, r) != string(guest) || r.Mode != 0o100755 {
			t.Errorf("size %d: init differs, mode %o", size, r.Mode)
		}
	}
}

func TestLoadOrderRefuses(t *testing.T) {
	for name, c := range map[string]struct{ dep, want string }{
		"missing":  {dep: "a.ko:\n", want: "nosuch: neither"},
		"cycle":    {dep: "nosuch.ko: b.ko\nb.ko: nosuch.ko\n", want: "depends on itself"},
		"unlisted": {dep: "nosuch.ko: b.ko\n", want: "b.ko is needed"},
	} {
		_, err := initramfs.LoadOrder(c.dep, "", []string{"nosuch"})
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, want %q", name, err, c.want)
		}
	}
	if files, err := initramfs.LoadOrder("", builtin, []string{"ext4", "rng-core"}); err != nil || len(files) != 0 {
		t.Errorf("built-in modules: %q, %v", files, err)
	}
}

func FuzzLoadOrder(f *testing.F) {
	f.Add(dep, builtin, "virtio_net")
	f.Add("a.ko: a.ko", "", "a")
	f.Add(":\n: :", "/", "")
	f.Fuzz(func(t *testing.T, dep, builtin, wanted string) {
		files, err := initramfs.LoadOrder(dep, builtin, []string{wanted})
		if err != nil && files != nil {
			t.Error("files and an error")
		}
		seen := map[string]bool{}
		for _, file := range files {
			if seen[file] {
				t.Errorf("%q twice", file)
			}
			seen[file] = true
		}
	})
}
