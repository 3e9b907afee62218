package vmcmd_test

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"banger"
	"banger/internal/api"
)

// What is absent is left out of the request; 0, less and what is no number at
// all never leaves the command line.
func TestSizesAndCounts(t *testing.T) {
	for _, flag := range []struct{ name, field string }{
		{"--cpu", "cpus"}, {"--memory", "memory_bytes"}, {"--disk", "disk_bytes"},
	} {
		for _, value := range []string{"", "0", "-1", "many", "0MiB", "-1GiB", "512", "1.5"} {
			for _, cmd := range []string{"vm create", "run", "vm set web"} {
				if flag.name == "--cpu" && value == "512" {
					continue
				}
				s := newSession(t, nil)
				args := strings.Fields(cmd)
				if value == "" {
					args = append(args, "--network", "user")
				} else {
					args = append(args, flag.name+"="+value)
				}
				err := s.run(t.Context(), args...)
				sent := s.requests()
				switch {
				case err == nil:
					t.Errorf("%q: no error", args)
				case value != "" && sent != "":
					t.Errorf("%q: sent %s", args, sent)
				case value == "" && (sent == "" || strings.Contains(sent, flag.field)):
					t.Errorf("%q: sent %q", args, sent)
				}
			}
		}
	}
}

func TestCreateRequest(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, banger.BundleManifest), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args string
		env  map[string]string
		want string
	}{
		{"vm create", nil, `{}`},
		{"vm create --no-start", nil, `{"no_start":true}`},
		{
			"vm create --name web --image debian-12 --cpu 3 --memory 1.5GiB --disk 20G --network user --backend qemu --bundle /b/../r", nil,
			`{"name":"web","image":"debian-12","cpus":3,"memory_bytes":1610612736,"disk_bytes":21474836480,"network":"user","backend":"qemu","bundle":"/r"}`,
		},
		{
			"vm create --publish 8080:80 --publish 0.0.0.0:5353:53/udp --isolated", nil,
			`{"isolated":true,"publish":[{"host":"127.0.0.1:8080","guest":80,"protocol":"tcp"},{"host":"0.0.0.0:5353","guest":53,"protocol":"udp"}]}`,
		},
		{
			"run --allow-host 5432 --allow-host 53/udp", nil,
			`{"allow_host":[{"port":5432,"protocol":"tcp"},{"port":53,"protocol":"udp"}]}`,
		},
		{"vm create --allow-host none", nil, `{"allow_host":[]}`},
		{"vm create --work-disk 40GiB", nil, `{"work_disk_bytes":42949672960}`},
		{"run --work-disk 0", nil, `{"work_disk_bytes":0}`},
		{"run --work-disk none", nil, `{"work_disk_bytes":0}`},
		{"run --isolated=false --publish none", nil, `{"isolated":false,"publish":[]}`},
		{"run debian-12 --cpu 1", nil, `{"image":"debian-12","cpus":1}`},
		{
			"run", map[string]string{"BANGER_RUNTIME_DIR": dir, "BANGER_BACKEND": "qemu"},
			`{"backend":"qemu","bundle":"` + dir + `"}`,
		},
		{"run --bundle /flag", map[string]string{"BANGER_RUNTIME_DIR": dir}, `{"bundle":"/flag"}`},
	} {
		s := newSession(t, nil)
		s.io.LookupEnv = func(name string) (string, bool) { v, ok := c.env[name]; return v, ok }
		_ = s.run(t.Context(), strings.Fields(c.args)...)
		if got := s.requests(); got != api.VMCreate+" "+c.want {
			t.Errorf("%s: sent\n%s, want\n%s", c.args, got, c.want)
		}
	}
}

// More CPUs than there are is allowed, and said to be of no use.
func TestMoreCPUsThanTheHostHas(t *testing.T) {
	for _, args := range []string{"vm create --cpu %d", "run --cpu %d", "vm set web --cpu %d"} {
		for n, warned := range map[int]bool{runtime.NumCPU(): false, runtime.NumCPU() + 1: true} {
			s := newSession(t, nil)
			_ = s.run(t.Context(), strings.Fields(fmt.Sprintf(args, n))...)
			if got := strings.Contains(s.err.String(), "slower, not faster"); got != warned || s.requests() == "" {
				t.Errorf("%s, %d: said %q, sent %q", args, n, s.err, s.requests())
			}
		}
	}
}

// A bundle that the environment names is not passed over.
func TestNamedBundleIsMissing(t *testing.T) {
	for _, args := range []string{"run", "vm create --no-start"} {
		s := newSession(t, nil)
		s.io.LookupEnv = func(name string) (string, bool) { return "/nothing/here", name == "BANGER_RUNTIME_DIR" }
		err := s.run(t.Context(), strings.Fields(args)...)
		if banger.CodeOf(err) != banger.NotFound || !strings.Contains(err.Error(), "named by BANGER_RUNTIME_DIR") || s.requests() != "" {
			t.Errorf("%s: %v, sent %q", args, err, s.requests())
		}
	}
}

func TestRefusedBeforeTheDaemonIsAsked(t *testing.T) {
	for _, args := range []string{
		"vm create --name Web", "vm create --name web_1", "vm create --network bridge", "vm create --name=",
		"vm create extra", "run one two", "run one two -- x", "run --",
		"vm set web", "vm set", "vm show", "vm show a b", "vm list x", "vm list -o xml",
		"vm stop", "vm stop web --all", "vm stop web --timeout -1s", "vm stop web --timeout 5", "vm restart web --timeout -1s",
		"vm create --publish 80", "vm create --publish 0:80", "vm create --publish 8080:0", "vm create --publish 8080:80/sctp",
		"vm create --publish 70000:80", "vm create --publish localhost:8080:80", "vm create --publish [::1]:8080:80", "vm create --publish=",
		"run --publish 8080:80:90:1", "run --publish none --publish 8080:80", "vm set web --publish 8080:80 --publish none",
		"vm create --allow-host 0", "vm create --allow-host=", "vm create --allow-host 80:80", "run --allow-host 80/sctp", "run --allow-host 70000",
		"run --allow-host none --allow-host 80", "vm set web --allow-host 80 --allow-host none",
		"vm create --work-disk 8", "vm create --work-disk=", "run --work-disk -1", "run --work-disk 0MiB", "vm set web --work-disk all",
		"vm create --isolated=perhaps", "vm set web --isolated=", "vm ports", "vm ports a b", "vm ports web -o xml",
		"vm wait web --for idle", "vm wait web --timeout 0s", "vm wait web --timeout -1s",
		"vm logs web --serial --vmm", "vm exec web", "vm exec web ls", "vm exec -- ls", "vm exec web -e =x -- ls",
		"vm exec web -w srv -- ls", "vm ssh", "vm ssh web ls", "vm ssh a b -- ls",
	} {
		s := newSession(t, nil)
		if err := s.run(t.Context(), strings.Fields(args)...); err == nil || s.requests() != "" {
			t.Errorf("%s: %v, sent %q", args, err, s.requests())
		}
	}
}
