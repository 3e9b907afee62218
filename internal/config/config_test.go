package config_test

import (
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"
	"testing"

	"banger"
	"banger/internal/config"
	"banger/internal/layout"
)

// load writes text as the configuration file ("-": none) and loads it with the
// environment vars.
func load(t *testing.T, text string, vars map[string]string) (config.Config, error) {
	t.Helper()
	l := layout.Layout{Config: t.TempDir()}
	if text != "-" {
		if err := os.WriteFile(l.ConfigFile(), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c, err := config.Load(l, func(k string) string { return vars[k] })
	if c.File != "" && c.File != l.ConfigFile() {
		t.Errorf("file = %s", c.File)
	}
	c.File = filepath.Base(c.File)
	return c, err
}

func TestDefaults(t *testing.T) {
	want := config.Config{File: ".", UserNetwork: "auto", NAT: true, TellHost: true, DNS: netip.MustParseAddrPort("127.0.0.1:42069"), Defaults: config.Defaults{CPUs: min(2, runtime.NumCPU()), Memory: 1 << 30, Disk: 10 << 30, WorkDisk: 8 << 30, Network: "auto"}}
	if c, err := load(t, "-", nil); err != nil || !reflect.DeepEqual(c, want) {
		t.Errorf("no file: %+v, %v", c, err)
	}
	want.File = "config.toml"
	if c, err := load(t, "", nil); err != nil || !reflect.DeepEqual(c, want) {
		t.Errorf("empty file: %+v, %v", c, err)
	}
}

const whole = `
runtime_dir = "/srv/bundle/"
backend = "qemu"
log_level = "debug"
[network]
user = "qemu"
nat = false
isolate = true
[dns]
listen = "127.0.0.53:0"
host = false
[defaults]
cpus = 3
memory = "2GiB"
disk = "20G"
work_disk = "64G"
image = "debian-12"
network = "user"
`

// An empty address is none, not the default.
func TestNoNames(t *testing.T) {
	if c, err := load(t, "[dns]\nlisten = \"\"", nil); err != nil || c.DNS.IsValid() {
		t.Errorf("%+v, %v", c, err)
	}
}

// A VM may be made without a work disk; any other size needs its unit.
func TestNoWorkDisk(t *testing.T) {
	for _, none := range []string{"0", "none"} {
		if c, err := load(t, "[defaults]\nwork_disk = \""+none+"\"", nil); err != nil || c.Defaults.WorkDisk != 0 {
			t.Errorf("%s: %+v, %v", none, c, err)
		}
	}
}

// The environment comes before the file, the file before the defaults; of
// bundles' directories both count, in that order.
func TestOrder(t *testing.T) {
	want := config.Config{
		File: "config.toml", RuntimeDirs: []string{"/srv/bundle"}, Backend: "qemu", LogLevel: slog.LevelDebug, UserNetwork: "qemu", Isolate: true, DNS: netip.MustParseAddrPort("127.0.0.53:0"),
		Defaults: config.Defaults{CPUs: 3, Memory: 2 << 30, Disk: 20 << 30, WorkDisk: 64 << 30, Image: "debian-12", Network: "user"},
	}
	if c, err := load(t, whole, nil); err != nil || !reflect.DeepEqual(c, want) {
		t.Errorf("file: %+v, %v", c, err)
	}
	want.Defaults.Network = "routed"
	want.RuntimeDirs, want.Backend, want.LogLevel, want.UserNetwork = []string{"/env", "/srv/bundle"}, "other", slog.LevelError, "passt"
	c, err := load(t, whole, map[string]string{
		"BANGER_RUNTIME_DIR": "/env", "BANGER_BACKEND": "other", "BANGER_LOG_LEVEL": "ERROR", "BANGER_NETWORK_USER": "passt", "BANGER_NETWORK": "routed",
	})
	if err != nil || !reflect.DeepEqual(c, want) {
		t.Errorf("environment: %+v, %v", c, err)
	}
}

func TestRefused(t *testing.T) {
	for text, word := range map[string]string{
		"backend = \"qemu\"\n\nbakend = \"x\"":  `config.toml:3: unknown key "bakend"`,
		"[defaults]\ncpu = 2":                   `config.toml:2: unknown key "defaults.cpu"`,
		"[default]\ncpus = 2":                   `unknown key "default`,
		"backend = ":                            "config.toml:1:",
		"backend = 7":                           "config.toml:1:",
		"backend = \"\"":                        "config.toml:1: backend: it is empty",
		"runtime_dir = \"runtime\"":             "config.toml:1: runtime_dir: \"runtime\" is not an absolute path",
		"log_level = \"loud\"":                  "no log level \"loud\"",
		"[network]\nuser = \"slirp\"":           "config.toml:2: network.user: \"slirp\" is not one of auto, passt, qemu",
		"[dns]\nlisten = \"192.168.1.1:53\"":    "config.toml:2: dns.listen: \"192.168.1.1:53\" is no address and port of the loopback",
		"[dns]\nlisten = \"127.0.0.1\"":         "no address and port",
		"[dns]\nlisten = \"localhost:53\"":      "no address and port",
		"[dns]\nlisten = \"[::1]:53\"":          "no address and port",
		"[dns]\nlisten = 53":                    "config.toml:2:",
		"[network]\nnat = \"yes\"":              "config.toml:2:",
		"[network]\nisolate = 1":                "config.toml:2:",
		"[network]\nstack = \"qemu\"":           `config.toml:2: unknown key "network.stack"`,
		"[defaults]\ncpus = 0":                  "config.toml:2: defaults.cpus: it must be at least 1, not 0",
		"[defaults]\ncpus = -1":                 "not -1",
		"[defaults]\ncpus = \"two\"":            "config.toml:2:",
		"[defaults]\nmemory = 1024":             "config.toml:2:",
		"[defaults]\nmemory = \"1024\"":         "config.toml:2: defaults.memory: size 1024 has no unit",
		"[defaults]\nmemory = \"0G\"":           "more than 0",
		"[defaults]\ndisk = \"-1G\"":            "defaults.disk: \"-1G\" is not a size",
		"[defaults]\nwork_disk = \"8\"":         "config.toml:2: defaults.work_disk: size 8 has no unit",
		"[defaults]\nwork_disk = 0":             "config.toml:2:",
		"[defaults]\nnetwork = \"bridge\"":      "no network mode \"bridge\"",
		strings.Repeat("# too long\n", 100_000): "larger than 1MiB",
	} {
		_, err := load(t, text, nil)
		if e := banger.AsError(err); e == nil || e.Code != banger.Invalid || !strings.Contains(e.Message, word) || e.Remedy == "" {
			t.Errorf("%.40q: %v (%+v), want %q", text, err, e, word)
		}
	}
	for name, value := range map[string]string{"BANGER_RUNTIME_DIR": "x", "BANGER_LOG_LEVEL": "x", "BANGER_NETWORK_USER": "x", "BANGER_NETWORK": "x", "BANGER_CONFIG": "/nowhere"} {
		_, err := load(t, "-", map[string]string{name: value})
		if banger.CodeOf(err) != banger.Invalid || !strings.Contains(err.Error(), name) {
			t.Errorf("%s=%s: %v", name, value, err)
		}
	}
}

func TestLineOfAValue(t *testing.T) {
	for text, want := range map[string]string{
		"# words\n[defaults]\n\nmemory = \"1G\"\n\ncpus = 0\n": "config.toml:6: defaults.cpus",
		"backend = \"x\"\ndefaults.cpus = 0\n":                 "config.toml:2: defaults.cpus",
		"\ndefaults = { cpus = 0 }\n":                          "config.toml:2: defaults.cpus",
	} {
		if _, err := load(t, text, nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}

// Whatever the file holds, it is understood or refused in words.
func FuzzLoad(f *testing.F) {
	f.Add(whole)
	f.Add("[defaults]\nmemory = \"1024\"")
	f.Fuzz(func(t *testing.T, text string) {
		if text == "-" {
			return
		}
		c, err := load(t, text, nil)
		if err != nil {
			if banger.CodeOf(err) != banger.Invalid {
				t.Errorf("%q: %v", text, err)
			}
			return
		}
		if c.Defaults.CPUs < 1 || c.Defaults.Memory < 1 || c.Defaults.Disk < 1 {
			t.Errorf("%q: %+v", text, c)
		}
	})
}

// The program firecracker is named by an absolute path, in the file or, before
// that, in the environment.
func TestFirecracker(t *testing.T) {
	c, err := load(t, `firecracker = "/opt/fc//firecracker"`, nil)
	if err != nil || c.Firecracker != "/opt/fc/firecracker" {
		t.Errorf("file: %q, %v", c.Firecracker, err)
	}
	c, err = load(t, `firecracker = "/opt/fc"`, map[string]string{"BANGER_FIRECRACKER": "/usr/fc"})
	if err != nil || c.Firecracker != "/usr/fc" {
		t.Errorf("environment: %q, %v", c.Firecracker, err)
	}
	if _, err := load(t, `firecracker = "fc"`, nil); banger.CodeOf(err) != banger.Invalid || !strings.Contains(err.Error(), "config.toml:1: firecracker: ") {
		t.Errorf("relative: %v", err)
	}
	if _, err := load(t, "-", map[string]string{"BANGER_FIRECRACKER": "fc"}); banger.CodeOf(err) != banger.Invalid || !strings.Contains(err.Error(), "BANGER_FIRECRACKER") {
		t.Errorf("relative, in the environment: %v", err)
	}
}
