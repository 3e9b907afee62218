package boot_test

import (
	"os"
	"path/filepath"
	"testing"

	"banger/internal/inguest/boot"
)

func TestHasVSock(t *testing.T) {
	for name, c := range map[string]struct {
		devices map[string]string
		want    bool
	}{
		"none":           {nil, false},
		"a card, a disk": {map[string]string{"virtio0": "0x0001\n", "virtio1": "0x0002\n"}, false},
		"a vsock":        {map[string]string{"virtio0": "0x0001\n", "virtio3": "0x0013\n"}, true},
	} {
		sys := t.TempDir()
		for device, number := range c.devices {
			dir := filepath.Join(sys, "bus/virtio/devices", device)
			if err := os.MkdirAll(dir, 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(dir, "device"), []byte(number), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if got := boot.HasVSock(sys); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}
