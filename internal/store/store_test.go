package store_test

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"banger"
	"banger/internal/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func open(t *testing.T, path string) *store.Store {
	t.Helper()
	s, err := store.Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// fresh returns a store in a directory of its own that holds one image.
func fresh(t *testing.T) *store.Store {
	t.Helper()
	s := open(t, filepath.Join(t.TempDir(), "banger.db"))
	if err := s.PutImage(t.Context(), image(1, "debian-12")); err != nil {
		t.Fatal(err)
	}
	return s
}

var epoch = time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)

func image(n int, name string) banger.Image {
	a := func(k int) banger.Artifact {
		return banger.Artifact{Digest: digest(n*10 + k), Size: int64(k) << 40}
	}
	return banger.Image{
		ID: fmt.Sprintf("%012x", n), Name: name, Default: true, OS: "Debian 12", Release: "6.1",
		Rootfs: a(1), Kernel: a(2), Initramfs: a(3), Modules: a(4), VMLinux: a(5), CreatedAt: epoch, Source: "/b",
	}
}

func digest(n int) banger.Digest {
	return banger.Digest("sha256:" + fmt.Sprintf("%064x", n))
}

func record(n int, name string) banger.Record {
	return banger.Record{
		ID: banger.VMID(fmt.Sprintf("%08x", n)),
		Spec: banger.Spec{Name: name, Image: "debian-12", NAT: banger.NATRequired, CPUs: 2, Memory: 1 << 30, Disk: 10 << 30,
			Network: banger.NetworkUser, Backend: "qemu", WorkDisk: 8 << 30, AllowHost: []banger.HostPort{{Port: 53, Proto: banger.UDP}}},
		ImageID: image(1, "").ID, HostKey: "key", Intent: banger.IntentCreating, CreatedAt: epoch,
	}
}

// lease leases the lowest number that is free.
func lease(taken []banger.Lease) (banger.Lease, error) {
	used := map[netip.Addr]bool{}
	for _, l := range taken {
		used[l.Addr] = true
	}
	for n := 2; ; n++ {
		if a := netip.AddrFrom4([4]byte{10, 0, byte(n >> 8), byte(n)}); !used[a] {
			return banger.Lease{Addr: a, MAC: fmt.Sprintf("02:00:00:00:%02x:%02x", n>>8, n&255), MachineID: fmt.Sprintf("%032x", n)}, nil
		}
	}
}

func create(t *testing.T, s *store.Store, n int, name string) banger.Record {
	t.Helper()
	r, err := s.CreateVM(t.Context(), record(n, name), lease)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func wantCode(t *testing.T, err error, c banger.Code, words ...string) {
	t.Helper()
	if banger.CodeOf(err) != c {
		t.Fatalf("err = %v (%s), want %s", err, banger.CodeOf(err), c)
	}
	e := banger.AsError(err)
	for _, w := range words {
		if !strings.Contains(e.Message+"\n"+e.Remedy, w) {
			t.Errorf("%q (remedy %q) lacks %q", e.Message, e.Remedy, w)
		}
	}
}

// Every field of a record comes back, and after a restart too.
func TestRoundTrip(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a?b#c%20d", "banger.db")
	if err := os.Mkdir(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	s := open(t, path)
	img := image(1, "debian-12")
	if err := s.PutImage(t.Context(), img); err != nil {
		t.Fatal(err)
	}
	want := create(t, s, 1, "web")
	want, err := s.UpdateVM(t.Context(), want.ID, func(r *banger.Record) error {
		r.Spec.Name, r.Spec.CPUs, r.Spec.Memory, r.Intent = "api", 4, 2<<30, banger.IntentRunning
		r.Run = &banger.Run{Launch: "0123456789abcdef", StartedAt: epoch, ReadyAt: epoch.Add(time.Second),
			Endpoint: banger.Endpoint{SSH: netip.MustParseAddrPort("127.0.0.1:20001"), User: &banger.UserNet{
				Subnet: netip.MustParsePrefix("10.0.0.0/20"), Gateway: netip.MustParseAddr("10.0.0.1"), Resolver: netip.MustParseAddr("10.0.0.2")}},
			Handle: &banger.Handle{Backend: "qemu", Version: 1, Launch: "0123456789abcdef", PID: 7, Started: 1<<64 - 1, Socket: "/s", Accelerator: "tcg"}}
		r.LastExit = &banger.Exit{Cause: banger.ExitGuest, Reboot: true, Detail: "d", At: epoch}
		r.Problem = &banger.Problem{Message: "m", Remedy: "r"}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, path)
	got, err := s.VM(t.Context(), want.ID)
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("VM:\n got %+v (%v)\nwant %+v", got, err, want)
	}
	if i, err := s.Image(t.Context(), "debian-12"); err != nil || !reflect.DeepEqual(i, img) {
		t.Errorf("image:\n got %+v (%v)\nwant %+v", i, err, img)
	}
}
