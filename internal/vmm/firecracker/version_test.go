package firecracker_test

import (
	"os"
	"strings"
	"syscall"
	"testing"

	"banger"
	"banger/internal/host"
	"banger/internal/vmm/firecracker"
	"log/slog"
)

func TestParseVersion(t *testing.T) {
	for out, want := range map[string]struct{ version, warning string }{
		"Firecracker v1.12.1\n\nmore": {"1.12.1", "use 1.15.1 or newer"},
		"Firecracker v1.14.3\n":       {"1.14.3", "use 1.15.1 or newer"},
		"Firecracker v1.14.4\n":       {"1.14.4", ""},
		"Firecracker v1.15.0\n":       {"1.15.0", "use 1.15.1 or newer"},
		"Firecracker v1.15.1":         {"1.15.1", ""},
		"Firecracker v1.16.1":         {"1.16.1", "vsock"},
		"Firecracker v1.16.2":         {"1.16.2", ""},
		"Firecracker v1.17.3":         {"1.17.3", ""},
		"Firecracker v1.18.0-dev":     {"1.18.0", "newer than any"},
		"Firecracker v2.0.0":          {"2.0.0", "newer than any"},
	} {
		v, w, err := firecracker.ParseVersion(out)
		if err != nil || v != want.version || (w == "") != (want.warning == "") || !strings.Contains(w, want.warning) {
			t.Errorf("%q: %s, %q, %v", out, v, w, err)
		}
	}
	for out, want := range map[string]string{
		"Firecracker v1.11.0\n": "too old", "Firecracker v0.25.2": "too old", "": "no version", "Firecracker vx": "no version",
		"QEMU emulator version 7.2": "no version", "Firecracker v1.-2.3": "no version", "\x1b[2J": `\x1b`,
	} {
		_, _, err := firecracker.ParseVersion(out)
		if e := banger.AsError(err); err == nil || e.Code != banger.HostUnready || e.Remedy == "" || !strings.Contains(e.Message, want) {
			t.Errorf("%q: %+v", out, e)
		}
	}
}

func FuzzVersion(f *testing.F) {
	f.Add("Firecracker v1.12.1")
	f.Fuzz(func(t *testing.T, out string) {
		if _, _, err := firecracker.ParseVersion(out); err == nil && !strings.HasPrefix(out, "Firecracker v") {
			t.Errorf("%q", out)
		}
	})
}

func TestProbe(t *testing.T) {
	caps, err := standInBackend(t).Probe(t.Context())
	if err != nil || caps.Version != "Firecracker v1.12.1" || !caps.NeedsTap || caps.Accelerator != "kvm" || caps.Warning == "" {
		t.Errorf("%+v, %v", caps, err)
	}
	_, err = backendOn(t, host.New(t.TempDir()), slog.New(slog.DiscardHandler)).Probe(t.Context())
	e := banger.AsError(err)
	if e == nil || e.Code != banger.HostUnready || !strings.Contains(e.Message, "not installed") || !strings.Contains(e.Remedy, "BANGER_FIRECRACKER") {
		t.Errorf("without the program: %+v", e)
	}
}

// Here and there KVM works; where it does not, that is the reason.
func TestProbeKVM(t *testing.T) {
	caps, err := backendOn(t, standInHost(t), slog.New(slog.DiscardHandler)).Probe(t.Context())
	if err == nil && caps.Accelerator == "kvm" {
		return
	}
	if e := banger.AsError(err); e.Code != banger.HostUnready || !strings.Contains(e.Message, "no KVM") || !strings.Contains(e.Remedy, "--backend qemu") {
		t.Errorf("%+v", e)
	}
}

// blocks is what a file takes on disk, bytes.
func blocks(t *testing.T, path string) int64 {
	t.Helper()
	fi, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return fi.Sys().(*syscall.Stat_t).Blocks * 512
}
