package blockdev_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"banger"
	"banger/internal/blockdev"
)

const (
	imageSize = 1 << 20
	cowSize   = 8 << 20
)

// A world is a directory with an image and a copy-on-write file, opened as a
// daemon hands them over, and a Host.
type world struct {
	dir, imagePath, cowPath string
	image, cow              *os.File
	host                    *blockdev.Host
}

func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == "hold" {
		hold(os.Args[2])
		return
	}
	goleak.VerifyTestMain(m)
}

func newWorld(t *testing.T) *world {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED: only root binds loop devices")
	}
	w := files(t, t.TempDir())
	w.open(t)
	return w
}

func files(t *testing.T, dir string) *world {
	w := &world{dir: dir, imagePath: filepath.Join(dir, "image"), cowPath: filepath.Join(dir, "cow")}
	must(t, os.MkdirAll(filepath.Join(dir, "udev"), 0o755))
	must(t, os.WriteFile(w.imagePath, bytes.Repeat([]byte("base"), imageSize/4), 0o444))
	must(t, os.WriteFile(w.cowPath, nil, 0o600))
	must(t, os.Truncate(w.cowPath, cowSize))
	w.host = blockdev.NewAt(0, dir, filepath.Join(dir, "udev", "rules.d"), filepath.Join(dir, "udev", "control"))
	return w
}

func (w *world) open(t *testing.T) {
	t.Helper()
	var err error
	w.image, err = os.Open(w.imagePath)
	must(t, err)
	w.cow, err = os.OpenFile(w.cowPath, os.O_RDWR, 0)
	must(t, err)
	t.Cleanup(func() { w.image.Close(); w.cow.Close() })
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// bound are the loop devices of banger's whose files lie in dir.
func bound(t *testing.T, dir string) (names []string) {
	t.Helper()
	all, err := filepath.Glob("/sys/block/loop4????/loop/backing_file")
	must(t, err)
	for _, f := range all {
		if b, err := os.ReadFile(f); err == nil && strings.HasPrefix(string(b), dir+"/") {
			names = append(names, strings.Split(f, "/")[3])
		}
	}
	return names
}

// eventually fails unless f comes true: the kernel lets go of loop devices in its
// own time.
func eventually(t *testing.T, what string, f func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !f(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within 20 s", what)
		}
	}
}

func attr(t *testing.T, n int, name string) string {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/sys/block/loop%d/%s", n, name))
	must(t, err)
	return strings.TrimSpace(string(b))
}

// Two loop devices, each as large as its file, the image's read-only, with numbers
// that udev's rule knows; they go with their descriptors.
func TestBind(t *testing.T) {
	w := newWorld(t)
	numbers, devs, err := w.host.Bind(w.image, w.cow)
	must(t, err)
	if len(numbers) != 2 || numbers[0] < 40000 || numbers[1] > 49999 || numbers[0] == numbers[1] {
		t.Fatalf("loops %v", numbers)
	}
	for i, want := range []struct{ ro, size string }{{"1", fmt.Sprint(imageSize / 512)}, {"0", fmt.Sprint(cowSize / 512)}} {
		n := numbers[i]
		if ro, size, clear := attr(t, n, "ro"), attr(t, n, "size"), attr(t, n, "loop/autoclear"); ro != want.ro || size != want.size || clear != "1" {
			t.Errorf("loop%d: ro=%s size=%s autoclear=%s", n, ro, size, clear)
		}
		if limit := attr(t, n, "loop/sizelimit"); limit == "0" {
			t.Errorf("loop%d has no size limit", n)
		}
	}
	if !blockdev.BoundTo(attr(t, numbers[0], "dev"), w.image) || blockdev.BoundTo(attr(t, numbers[0], "dev"), w.cow) {
		t.Error("a loop device is not known by its file")
	}
	rule, err := os.ReadFile(w.host.RuleFile())
	if err != nil || !strings.Contains(string(rule), "UDISKS_IGNORE") {
		t.Errorf("no rule: %v", err)
	}
	again, more, err := w.host.Bind(w.image, w.cow)
	must(t, err)
	for _, n := range again {
		if n == numbers[0] || n == numbers[1] {
			t.Errorf("loop%d is bound twice", n)
		}
	}
	for _, f := range append(devs, more...) {
		must(t, f.Close())
	}
	must(t, w.host.Unbind(append(numbers, again...)))
	if left := bound(t, w.dir); len(left) > 0 {
		t.Errorf("left %v", left)
	}
	for _, n := range append(numbers, again...) {
		if _, err := os.Lstat(fmt.Sprintf("/dev/loop%d", n)); err == nil {
			t.Errorf("/dev/loop%d is left", n)
		}
	}
	if _, err := os.Lstat(w.host.RuleFile()); err == nil {
		t.Error("the rule is left")
	}
}

// What happens to the files from outside gives errors or nothing at all: never
// bytes that were not in the file.
func TestFilesChangedFromOutside(t *testing.T) {
	w := newWorld(t)
	numbers, devs, err := w.host.Bind(w.image, w.cow)
	must(t, err)
	defer func() {
		for _, f := range devs {
			f.Close()
		}
		must(t, w.host.Unbind(numbers))
	}()
	must(t, os.Truncate(w.cowPath, cowSize*2))
	if n, err := devs[1].Seek(0, io.SeekEnd); err != nil || n != cowSize {
		t.Errorf("grown from outside, the device has %d bytes: %v", n, err)
	}
	must(t, os.Rename(w.imagePath, w.imagePath+"2"))
	must(t, os.WriteFile(w.imagePath, bytes.Repeat([]byte("evil"), imageSize/4), 0o444))
	p := make([]byte, 8)
	if _, err := devs[0].ReadAt(p, 4096); err != nil || string(p) != "basebase" {
		t.Errorf("replaced from outside: %q %v", p, err)
	}
	must(t, os.Truncate(w.imagePath+"2", imageSize/2))
	direct, err := os.OpenFile(fmt.Sprintf("/dev/loop%d", numbers[0]), os.O_RDONLY|unix.O_DIRECT, 0)
	must(t, err)
	defer direct.Close()
	buf := aligned(4096)
	if n, err := direct.ReadAt(buf, imageSize/2); err == nil && !bytes.Equal(buf[:n], make([]byte, n)) {
		t.Errorf("shrunk from outside: %q", buf[:16])
	}
}

// aligned is memory for direct input.
func aligned(n int) []byte {
	b, err := unix.Mmap(-1, 0, n, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		panic(err)
	}
	return b
}

// A process that is killed while it holds loop devices leaves none bound, and
// what it leaves of them is used again.
func TestKilledHolder(t *testing.T) {
	w := newWorld(t)
	c := exec.Command("/proc/self/exe", "hold", w.dir)
	out, err := c.StdoutPipe()
	must(t, err)
	must(t, c.Start())
	if _, err := out.Read(make([]byte, 1)); err != nil { // it has bound them
		t.Error(err)
	}
	names := bound(t, w.dir)
	must(t, c.Process.Kill())
	_ = c.Wait()
	if len(names) != 2 {
		t.Fatalf("it held %v", names)
	}
	eventually(t, "the kernel clears them", func() bool { return len(bound(t, w.dir)) == 0 })
	numbers, devs, err := w.host.Bind(w.image, w.cow)
	must(t, err)
	for _, f := range devs {
		must(t, f.Close())
	}
	must(t, w.host.Unbind(numbers))
	for i, n := range numbers {
		if fmt.Sprintf("loop%d", n) != names[i] {
			t.Errorf("loop%d is not what was left, %v", n, names)
		}
	}
}

func hold(dir string) {
	h := blockdev.NewAt(0, dir, filepath.Join(dir, "udev", "rules.d"), filepath.Join(dir, "udev", "control"))
	image, _ := os.Open(filepath.Join(dir, "image"))
	cow, _ := os.OpenFile(filepath.Join(dir, "cow"), os.O_RDWR, 0)
	_, devs, err := h.Bind(image, cow)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Print("x")
	time.Sleep(time.Hour) // not select {}: without cgo the runtime ends what waits for nothing
	runtime.KeepAlive(devs)
}

// udevd is told to read the new rule before anything is bound that it is about,
// and once only.
func TestRuleIsRead(t *testing.T) {
	w := newWorld(t)
	l, err := net.Listen("unixpacket", filepath.Join(w.dir, "udev", "control"))
	must(t, err)
	defer l.Close()
	type told struct {
		kinds []uint32
		bound int
	}
	heard := make(chan told, 2)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				close(heard)
				return
			}
			var all told
			b := make([]byte, 1000)
			for len(all.kinds) < 2 {
				n, err := c.Read(b)
				if err != nil || n != 280 || binary.NativeEndian.Uint32(b[16:]) != 0xdead1dea {
					break
				}
				all.kinds = append(all.kinds, binary.NativeEndian.Uint32(b[20:]))
			}
			all.bound = len(bound(t, w.dir))
			c.Close()
			heard <- all
		}
	}()
	for range 2 {
		numbers, devs, err := w.host.Bind(w.image, w.cow)
		must(t, err)
		defer func() {
			for _, f := range devs {
				f.Close()
			}
			must(t, w.host.Unbind(numbers))
		}()
	}
	l.Close()
	var all []told
	for h := range heard {
		all = append(all, h)
	}
	if len(all) != 1 || fmt.Sprint(all[0]) != "{[4 0] 0}" {
		t.Errorf("udevd heard %v", all)
	}
}

// What is not exactly a file of the peer's own, or an image, is refused.
func TestCheck(t *testing.T) {
	w := newWorld(t)
	must(t, w.host.Check(cowSize, w.image, w.cow))
	header := func(fields ...uint32) func(*world) {
		return func(w *world) {
			var b []byte
			for _, f := range fields {
				b = binary.LittleEndian.AppendUint32(b, f)
			}
			_, err := w.cow.WriteAt(b, 0)
			must(t, err)
		}
	}
	reopen := func(f **os.File, path string, flags int) {
		(*f).Close()
		var err error
		*f, err = os.OpenFile(path, flags, 0)
		must(t, err)
	}
	const magic = 0x70416e53
	for name, c := range map[string]struct {
		spoil func(*world)
		want  string // "": it is good
	}{
		"nothing":                     {func(*world) {}, ""},
		"a header of ours":            {header(magic, 1, 1, 8), ""},
		"an invalid one of ours":      {header(magic, 0, 1, 8), ""},
		"large chunks":                {header(magic, 1, 1, 1<<21), "no snapshot of banger's"},
		"another version":             {header(magic, 1, 2, 8), "no snapshot of banger's"},
		"another header":              {header(0x53ef, 1, 1, 8), "no snapshot of banger's"},
		"half a header":               {header(0, 1, 1, 8), "no snapshot of banger's"},
		"image for writing":           {func(w *world) { reopen(&w.image, w.imagePath, os.O_RDWR) }, "the image is not used: it is opened"},
		"image by path only":          {func(w *world) { reopen(&w.image, w.imagePath, unix.O_PATH) }, "the image is not used: it is opened"},
		"image without name":          {func(w *world) { os.Remove(w.imagePath) }, "the image is not used: it has no name"},
		"image that is a directory":   {func(w *world) { reopen(&w.image, w.dir, os.O_RDONLY) }, "the image is not used: it is no regular file"},
		"image that is a device":      {func(w *world) { reopen(&w.image, "/dev/zero", os.O_RDONLY) }, "the image is not used: it is no regular file"},
		"image of proc":               {func(w *world) { reopen(&w.image, "/proc/version", os.O_RDONLY) }, "the image is not used: the file system"},
		"image that is empty":         {func(w *world) { must(t, os.Truncate(w.imagePath, 0)) }, "the image is not used: it has 0 bytes"},
		"image with half a sector":    {func(w *world) { must(t, os.Truncate(w.imagePath, 1000)) }, "the image is not used: it has 1000 bytes"},
		"image larger than the disk":  {func(w *world) { must(t, os.Truncate(w.imagePath, 2*cowSize)) }, "the image is not used: it has"},
		"file that cannot be written": {func(w *world) { reopen(&w.cow, w.cowPath, os.O_RDONLY) }, "copy-on-write file is not used: it is opened"},
		"file for writing only":       {func(w *world) { reopen(&w.cow, w.cowPath, os.O_WRONLY) }, "copy-on-write file is not used: it is opened"},
		"file that is appended to":    {func(w *world) { reopen(&w.cow, w.cowPath, os.O_RDWR|os.O_APPEND) }, "copy-on-write file is not used: it is opened"},
		"file of another user":        {func(w *world) { must(t, w.cow.Chown(65533, 65533)) }, "copy-on-write file is not used: it is uid 65533's"},
		"file without name":           {func(w *world) { os.Remove(w.cowPath) }, "copy-on-write file is not used: it has no name"},
		"file that is too small":      {func(w *world) { must(t, w.cow.Truncate(4096)) }, "copy-on-write file is not used: it has 4096 bytes"},
		"file with half a sector":     {func(w *world) { must(t, w.cow.Truncate(cowSize+1)) }, "copy-on-write file is not used: it has"},
		"file that is the image":      {func(w *world) { reopen(&w.cow, w.imagePath, os.O_RDWR) }, "copy-on-write file is not used: it is the image"},
		"file that is a FIFO": {func(w *world) {
			must(t, unix.Mkfifo(w.cowPath+"2", 0o600))
			reopen(&w.cow, w.cowPath+"2", os.O_RDWR)
		}, "copy-on-write file is not used: it is no regular file"},
	} {
		t.Run(name, func(t *testing.T) {
			w := files(t, t.TempDir())
			w.open(t)
			c.spoil(w)
			err := w.host.Check(cowSize, w.image, w.cow)
			if c.want == "" {
				must(t, err)
				return
			}
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want %q", err, c.want)
			}
			if code := banger.CodeOf(err); code != banger.Invalid {
				t.Errorf("code %s", code)
			}
		})
	}
	for _, size := range []int64{0, -512, cowSize + 1, blockdev.MaxSize + 512} {
		if err := w.host.Check(size, w.image, w.cow); banger.CodeOf(err) != banger.Invalid {
			t.Errorf("a disk of %d bytes: %v", size, err)
		}
	}
}

// A stacked file system is refused, whatever lies below.
func TestOverlayFS(t *testing.T) {
	w := newWorld(t)
	for _, d := range []string{"lower", "upper", "work", "all"} {
		must(t, os.Mkdir(filepath.Join(w.dir, d), 0o700))
	}
	all := filepath.Join(w.dir, "all")
	opts := fmt.Sprintf("lowerdir=%[1]s/lower,upperdir=%[1]s/upper,workdir=%[1]s/work", w.dir)
	if err := unix.Mount("overlay", all, "overlay", 0, opts); err != nil {
		t.Skipf("SKIPPED: mount an overlay: %v", err)
	}
	t.Cleanup(func() { must(t, unix.Unmount(all, 0)) })
	f, err := os.Create(filepath.Join(all, "cow"))
	must(t, err)
	defer f.Close()
	if err := blockdev.CheckFS(f); banger.CodeOf(err) != banger.HostUnready || banger.AsError(err).Remedy == "" {
		t.Errorf("%v", err)
	}
}

// The kernel is sent what it sends back, however long the parameters are.
func TestTables(t *testing.T) {
	for n := range 40 {
		params := strings.Repeat("x", n)
		got, err := blockdev.Reencode(0, 8, "snapshot", params)
		if err != nil || got != "snapshot "+params {
			t.Errorf("%d: %q %v", n, got, err)
		}
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(make([]byte, 80), uint32(2))
	f.Fuzz(func(t *testing.T, b []byte, n uint32) {
		if got, err := blockdev.Decode(b, n%1000); err == nil && got != int(n%1000) {
			t.Errorf("%d targets of %d", got, n%1000)
		}
	})
}

// A device mapper that is not there is told, with what to do; there is nothing to
// detach, and an attach leaves nothing.
func TestNoDeviceMapper(t *testing.T) {
	w := newWorld(t)
	if mapper() {
		t.Skip("SKIPPED: this host has a device mapper")
	}
	dir, err := os.Open(w.dir)
	must(t, err)
	defer dir.Close()
	d := blockdev.Disk{Tag: "beef", VM: "0badcafe"}
	if err := w.host.Probe(dir); banger.CodeOf(err) != banger.HostUnready || banger.AsError(err).Remedy == "" {
		t.Errorf("probe: %v", err)
	}
	must(t, w.host.Detach(d))
	if _, err := w.host.Attach(d, cowSize, w.image, w.cow); banger.CodeOf(err) != banger.HostUnready {
		t.Errorf("attach: %v", err)
	}
	if left := bound(t, w.dir); len(left) > 0 {
		t.Errorf("left %v", left)
	}
}
