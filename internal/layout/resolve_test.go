package layout_test

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"banger"
	"banger/internal/layout"
)

// host is a pretend host's volatile directory, with /run/user/UID in it.
func host(t *testing.T, uid int) (run, userRun string) {
	t.Helper()
	run = t.TempDir()
	userRun = filepath.Join(run, "user", strconv.Itoa(uid))
	if err := os.MkdirAll(userRun, 0o700); err != nil {
		t.Fatal(err)
	}
	return run, userRun
}

func env(vars ...string) func(string) string {
	return func(k string) string {
		for i := 0; i < len(vars); i += 2 {
			if vars[i] == k {
				return vars[i+1]
			}
		}
		return ""
	}
}

func TestResolveAsUser(t *testing.T) {
	me := os.Geteuid()
	if me == 0 {
		me = 4242
	}
	run, userRun := host(t, me)
	fallback := filepath.Join(userRun, "banger")
	if err := os.Chown(userRun, me, me); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name                     string
		env                      []string
		state, run, config, data string
		socket                   string
	}{
		{
			name: "nothing but HOME", env: []string{"HOME", "/h"},
			state: "/h/.local/state/banger", run: fallback, config: "/h/.config/banger", data: "/h/.local/share/banger",
		},
		{
			name:  "XDG",
			env:   []string{"HOME", "/h", "XDG_STATE_HOME", "/s", "XDG_CONFIG_HOME", "/c", "XDG_DATA_HOME", "/d", "XDG_RUNTIME_DIR", userRun},
			state: "/s/banger", run: filepath.Join(userRun, "banger"), config: "/c/banger", data: "/d/banger",
		},
		{
			name:  "BANGER before XDG",
			env:   []string{"HOME", "/h", "XDG_STATE_HOME", "/s", "XDG_RUNTIME_DIR", userRun, "BANGER_STATE_DIR", "/bs/", "BANGER_RUN_DIR", "/br", "BANGER_SOCKET", "/k/s.sock"},
			state: "/bs", run: "/br", config: "/h/.config/banger", data: "/h/.local/share/banger", socket: "/k/s.sock",
		},
		{
			name: "XDG_RUNTIME_DIR is gone", env: []string{"HOME", "/h", "XDG_RUNTIME_DIR", "/nowhere"},
			state: "/h/.local/state/banger", run: fallback, config: "/h/.config/banger", data: "/h/.local/share/banger",
		},
		{
			name: "XDG_RUNTIME_DIR is a file", env: []string{"HOME", "/h", "XDG_RUNTIME_DIR", file},
			state: "/h/.local/state/banger", run: fallback, config: "/h/.config/banger", data: "/h/.local/share/banger",
		},
		{
			name: "XDG_RUNTIME_DIR is another's", env: []string{"HOME", "/h", "XDG_RUNTIME_DIR", "/proc/1"},
			state: "/h/.local/state/banger", run: fallback, config: "/h/.config/banger", data: "/h/.local/share/banger",
		},
		{
			name: "empty is unset", env: []string{"HOME", "/h", "XDG_STATE_HOME", "", "BANGER_STATE_DIR", "", "XDG_RUNTIME_DIR", ""},
			state: "/h/.local/state/banger", run: fallback, config: "/h/.config/banger", data: "/h/.local/share/banger",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			l, err := layout.ResolveOn(run, env(c.env...), me)
			if err != nil {
				t.Fatal(err)
			}
			if l.State != c.state || l.Run != c.run || l.Config != c.config || l.Data != c.data {
				t.Errorf("%+v", l)
			}
			if c.socket == "" {
				c.socket = filepath.Join(c.run, "bangerd.sock")
			}
			if l.Socket() != c.socket {
				t.Errorf("socket %s", l.Socket())
			}
		})
	}
}

// Neither runtime directory is there, as in a container: below the state.
func TestNoRuntimeDirectory(t *testing.T) {
	l, err := layout.ResolveOn(t.TempDir(), env("HOME", "/h"), 4242)
	if err != nil || l.Run != "/h/.local/state/banger/run" {
		t.Errorf("%+v %v", l, err)
	}
}

func TestResolveAsRoot(t *testing.T) {
	run, _ := host(t, 0)
	closed := filepath.Join(run, "user", "0") // 0700, as a login gives root
	for _, c := range []struct {
		name       string
		env        []string
		state, run string
	}{
		{"plain", []string{"HOME", "/root"}, "/var/lib/banger", run + "/banger"},
		{"login", []string{"HOME", "/root", "XDG_RUNTIME_DIR", closed}, "/var/lib/banger", run + "/banger"},
		{"XDG", []string{"HOME", "/root", "XDG_STATE_HOME", "/s"}, "/s/banger", run + "/banger"},
		{"BANGER", []string{"HOME", "/root", "BANGER_STATE_DIR", "/bs", "BANGER_RUN_DIR", "/br"}, "/bs", "/br"},
	} {
		t.Run(c.name, func(t *testing.T) {
			l, err := layout.ResolveOn(run, env(c.env...), 0)
			if err != nil || l.State != c.state || l.Run != c.run || l.Config != "/root/.config/banger" {
				t.Errorf("%+v %v", l, err)
			}
		})
	}
}

// Without HOME the user database knows; who is not in it is told what to set.
func TestNoHome(t *testing.T) {
	l, err := layout.ResolveOn(t.TempDir(), env(), 0)
	if err != nil || !strings.HasSuffix(l.Config, "/.config/banger") {
		t.Errorf("%+v %v", l, err)
	}
	_, err = layout.ResolveOn(t.TempDir(), env(), 0x70001003)
	if e := banger.AsError(err); e == nil || e.Code != banger.Invalid || !strings.Contains(e.Remedy, "HOME") {
		t.Errorf("%v", err)
	}
	all := env("BANGER_STATE_DIR", "/s", "BANGER_RUN_DIR", "/r", "XDG_CONFIG_HOME", "/c", "XDG_DATA_HOME", "/d")
	if _, err := layout.ResolveOn(t.TempDir(), all, 0x70001003); err != nil {
		t.Errorf("all is set: %v", err)
	}
}

func TestRefused(t *testing.T) {
	long := "/" + strings.Repeat("x", 95)
	for name, c := range map[string]struct {
		env    []string
		remedy string
	}{
		"relative state":  {[]string{"BANGER_STATE_DIR", "state"}, "BANGER_STATE_DIR"},
		"relative run":    {[]string{"BANGER_RUN_DIR", "./run"}, "BANGER_RUN_DIR"},
		"relative socket": {[]string{"BANGER_SOCKET", "s"}, "BANGER_SOCKET"},
		"relative config": {[]string{"BANGER_CONFIG", "c.toml"}, "BANGER_CONFIG"},
		"relative XDG":    {[]string{"XDG_STATE_HOME", "s"}, "XDG_STATE_HOME"},
		"tilde":           {[]string{"BANGER_STATE_DIR", "~/s"}, "BANGER_STATE_DIR"},
		"long run":        {[]string{"BANGER_RUN_DIR", long}, "set BANGER_RUN_DIR to a shorter path"},
		"long socket":     {[]string{"BANGER_SOCKET", long + "/0123456789abcdef"}, "set BANGER_SOCKET to a shorter path"},
		"long state":      {[]string{"BANGER_STATE_DIR", long, "BANGER_RUN_DIR", "/r"}, "set BANGER_STATE_DIR to a shorter path"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := layout.ResolveOn(t.TempDir(), env(append(c.env, "HOME", "/h")...), 4242)
			if e := banger.AsError(err); e == nil || e.Code != banger.Invalid || !strings.Contains(e.Remedy, c.remedy) {
				t.Errorf("%v (%+v)", err, e)
			}
		})
	}
	// 107 bytes fit
	if _, err := layout.ResolveOn(t.TempDir(), env("HOME", "/h", "BANGER_SOCKET", "/"+strings.Repeat("x", 106)), 4242); err != nil {
		t.Error(err)
	}
}

func TestPaths(t *testing.T) {
	l := layout.Layout{State: "/s", Run: "/r", Config: "/c", Data: "/d"}
	id := banger.VMID("0badcafe")
	d := banger.Digest("sha256:" + strings.Repeat("ab", 32))
	for got, want := range map[string]string{
		l.DB(): "/s/banger.db", l.Lock(): "/s/daemon.lock", l.DaemonLog(): "/s/daemon.log",
		l.Key(): "/s/id_ed25519", l.Blob(d): "/s/blobs/" + strings.Repeat("ab", 32),
		l.VMDir(id): "/s/vms/0badcafe", l.Serial(id): "/s/vms/0badcafe/serial.log", l.VMMLog(id): "/s/vms/0badcafe/vmm.log",
		l.Failed(): "/s/failed", l.RunVMDir(id): "/r/vms/0badcafe", l.Initrd(id, "f00"): "/r/vms/0badcafe/f00.initrd",
		l.Socket(): "/r/bangerd.sock", l.ConfigFile(): "/c/config.toml",
		strings.Join(l.BundleSearch([]string{"", "/flag", "/env"}, "/src/bin/bangerd"), " "): "/flag /env /src/runtime /src/lib/banger /d/runtime",
		strings.Join(l.BundleSearch([]string{"/src/runtime"}, "/src/bin/bangerd"), " "):      "/src/runtime /src/lib/banger /d/runtime",
		strings.Join(l.BundleSearch(nil, ""), " "):                                           "/d/runtime",
	} {
		if got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}
