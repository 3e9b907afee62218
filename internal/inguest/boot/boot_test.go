package boot_test

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"io/fs"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"banger/internal/guestapi"
	"banger/internal/inguest/boot"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestParseIdentity(t *testing.T) {
	whole := identity()
	whole.Version, whole.Launch, whole.Hostname = guestapi.Version, "00112233aabbccdd", "web"
	whole.MachineID, whole.MAC, whole.HostKey = strings.Repeat("0f", 16), "52:54:00:00:00:02", "a key"
	whole.AuthorizedKeys = []string{"another"}
	for name, c := range map[string]struct {
		change func(*guestapi.Identity)
		want   string
	}{
		"whole":         {func(*guestapi.Identity) {}, ""},
		"other version": {func(id *guestapi.Identity) { id.Version++ }, "different builds"},
		"no launch":     {func(id *guestapi.Identity) { id.Launch = "" }, "no launch ID"},
		"bad name":      {func(id *guestapi.Identity) { id.Hostname = "a\nb" }, "no valid host name"},
		"name's edge":   {func(id *guestapi.Identity) { id.Hostname = "web-" }, "no valid host name"},
		"no machine ID": {func(id *guestapi.Identity) { id.MachineID = "" }, "no machine ID"},
		"no keys":       {func(id *guestapi.Identity) { id.AuthorizedKeys = nil }, "no keys"},
		"no address":    {func(id *guestapi.Identity) { id.Address = identity().Address; id.Gateway = guestapi.Identity{}.Gateway }, "no address or gateway"},
	} {
		id := whole
		c.change(&id)
		text, err := json.Marshal(id)
		if err != nil {
			t.Fatal(err)
		}
		_, err = boot.ParseIdentity(text)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
	if _, err := boot.ReadIdentity(filepath.Join(t.TempDir(), "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no identity at all: %v", err)
	}
}

func FuzzParseIdentity(f *testing.F) {
	f.Add([]byte(`{"version":1,"hostname":"web"}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		if id, err := boot.ParseIdentity(text); err == nil && (id.Hostname == "" || strings.ContainsAny(id.Hostname, "\n \t/")) {
			t.Errorf("%q", id.Hostname)
		}
	})
}

// disk returns the beginning of a disk with an ext4 of that many blocks of 4 KiB.
func disk(blocks uint64) []byte {
	d := make([]byte, 2048)
	s := d[1024:]
	binary.LittleEndian.PutUint16(s[0x38:], 0xEF53)
	binary.LittleEndian.PutUint32(s[0x18:], 2)
	binary.LittleEndian.PutUint32(s[0x4:], uint32(blocks))
	binary.LittleEndian.PutUint32(s[0x60:], 0x80)
	binary.LittleEndian.PutUint32(s[0x150:], uint32(blocks>>32))
	return d
}

func TestParseSuper(t *testing.T) {
	for _, want := range []uint64{1, 327680, 1 << 33} {
		s, err := boot.ParseSuper(disk(want))
		if blocks, size := boot.Super(s); err != nil || blocks != want || size != 4096 {
			t.Errorf("%d blocks: %d of %d bytes, %v", want, blocks, size, err)
		}
	}
	damaged := disk(1)
	damaged[1024+0x18] = 77
	for name, d := range map[string][]byte{"blank": make([]byte, 2048), "short": nil, "damaged": damaged} {
		if _, err := boot.ParseSuper(d); !errors.Is(err, boot.ErrNotExt4) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzParseSuper(f *testing.F) {
	f.Add(disk(7))
	f.Fuzz(func(t *testing.T, d []byte) {
		s, err := boot.ParseSuper(d)
		if _, size := boot.Super(s); err == nil && (size < 1024 || size > 65536) {
			t.Errorf("blocks of %d bytes", size)
		}
	})
}

func TestWaitDevice(t *testing.T) {
	if _, err := boot.WaitDevice(filepath.Join(t.TempDir(), "vda"), time.Millisecond); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no device: %v", err)
	}
	f, err := boot.WaitDevice("/dev/null", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
}

func TestHalts(t *testing.T) {
	for cmdline, want := range map[string]bool{"console=ttyS0 reboot=k panic=1\n": true, "reboot=t": false, "noreboot=k": false, "": false} {
		if boot.Halts(cmdline) != want {
			t.Errorf("%q: %v", cmdline, !want)
		}
	}
}
