package e2e

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"reflect"
	"strconv"
	"strings"
	"testing"

	"banger"
	"banger/internal/api"
)

// What makes this VM this VM, seen from inside.
func TestIdentity(t *testing.T) {
	b := web(t)
	v := b.show("web")
	for script, want := range map[string]string{
		"hostname":            "web",
		"cat /etc/hostname":   "web",
		"cat /etc/machine-id": v.MachineID,
		"getent ahostsv4 web | head -n1 | cut -d' ' -f1": v.Addr.String(),
		"hostname -I | tr -d ' '":                        v.Addr.String(),
		"cat /sys/class/net/eth0/address":                v.MAC,
		"ip -6 -o address show dev eth0":                 "",
		"readlink -f /proc/1/exe":                        "/usr/lib/systemd/systemd",
		"nproc":                                          "2",
		"stat -fc %T /":                                  "ext2/ext3",
		"findmnt -no OPTIONS /lib/modules/$(uname -r) | cut -c1-2": "ro",
		"cut -d: -f3 /proc/self/cgroup | cut -d/ -f2":              "banger",
	} {
		if got := b.in("web", script); got != want {
			t.Errorf("%s: %q, want %q", script, got, want)
		}
	}
	if got := b.in("web", "cat /etc/resolv.conf"); !strings.HasPrefix(got, "nameserver ") {
		t.Errorf("resolv.conf: %q", got)
	}
	if got := b.in("web", "cat /proc/cmdline"); strings.Contains(got, "PRIVATE") || strings.Contains(got, "ssh-ed25519") {
		t.Errorf("a secret is on the kernel's command line: %q", got)
	}
	if r := b.run("vm", "exec", "-n", "web", "--", "cat", "/root/.ssh/authorized_keys"); r.code == 0 {
		t.Errorf("somebody's ~/.ssh was touched: %q", r.out)
	}
	if got := b.in("web", "systemctl is-system-running"); got != "running" {
		t.Errorf("systemd says %q: %s", got, b.run("vm", "exec", "-n", "web", "--", "systemctl", "--failed").out)
	}
}

func TestModules(t *testing.T) {
	b := web(t)
	// Two that no boot needs: one plain, one with dependencies.
	b.in("web", "modprobe dummy && grep -q ^dummy /proc/modules")
	b.in("web", "modprobe wireguard && grep -q ^wireguard /proc/modules")
}

// --disk is what the guest has, on create and after a growth by set.
func TestDiskGrows(t *testing.T) {
	b := common(t)
	b.boot("wide", "--disk", "3GiB")
	size := func() int64 {
		n, err := strconv.ParseInt(strings.TrimSpace(b.in("wide", "df -B1 --output=size / | tail -n1")), 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	if n := size(); n < 3<<30*9/10 || n > 3<<30 { // its own tables take some
		t.Errorf("df says %d bytes of 3 GiB", n)
	}
	b.ok("vm", "kill", "wide")
	b.ok("vm", "set", "wide", "--disk", "5GiB")
	b.ok("vm", "start", "wide")
	if n := size(); n < 5<<30*9/10 || n > 5<<30 {
		t.Errorf("df says %d bytes of 5 GiB", n)
	}
}

// vm.create ends with the VM as vm.show shows it, field for field, through the
// client, the CLI and raw HTTP.
func TestCreateEndsWithTheVM(t *testing.T) {
	b := common(t)
	b.ok("vm", "list")
	var c = b.client()
	remove := func(name string) { b.t.Cleanup(func() { b.run("vm", "delete", "--force", name) }) }
	request := api.CreateRequest{Name: api.Some("by-client"), CPUs: api.Some(1), Memory: api.Some[int64](256 << 20)}

	remove("by-client")
	op, err := c.CreateVM(t.Context(), request)
	if err != nil {
		t.Fatal(err)
	}
	made, err := op.Wait(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	shown, err := c.ShowVM(t.Context(), api.VMRequest{VM: "by-client"})
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(made, shown) {
		t.Errorf("client: created %+v\nshown %+v", made, shown)
	}
	if !made.Ready || made.State != banger.StateRunning || made.PID == 0 {
		t.Errorf("it is not ready: %+v", made)
	}

	remove("by-cli")
	created := b.ok(append([]string{"vm", "create", "--name", "by-cli", "-o", "json"}, cheap()...)...)
	if shown := b.ok("vm", "show", "by-cli", "-o", "json"); created != shown {
		t.Errorf("CLI: created %s\nshown %s", created, shown)
	}

	remove("by-http")
	lock, _, err := b.Lock()
	if err != nil {
		t.Fatal(err)
	}
	h := http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", lock.Socket)
	}}}
	defer h.CloseIdleConnections()
	post := func(op, body string) []byte {
		t.Helper()
		resp, err := h.Post("http://banger"+api.Prefix+op, "application/json", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		if err != nil || resp.StatusCode != http.StatusOK {
			t.Fatalf("%s: %s %s %v", op, resp.Status, text, err)
		}
		return text
	}
	var started api.OpStarted
	if err := json.Unmarshal(post(api.VMCreate, `{"name":"by-http","cpus":1,"memory_bytes":268435456}`), &started); err != nil {
		t.Fatal(err)
	}
	resp, err := h.Get("http://banger" + api.OpEventsPath(started.Op, 0))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var last struct {
		N      int
		Type   banger.EventType
		Result map[string]any
	}
	for d, n := json.NewDecoder(resp.Body), 0; ; n++ {
		if err := d.Decode(&last); err == io.EOF {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		if last.N != n {
			t.Errorf("event %d has the number %d", n, last.N)
		}
	}
	var raw map[string]any
	if err := json.Unmarshal(post(api.VMShow, `{"vm":"by-http"}`), &raw); err != nil {
		t.Fatal(err)
	}
	if last.Type != banger.EventDone || !reflect.DeepEqual(last.Result, raw) {
		t.Errorf("HTTP: created %+v\nshown %+v", last.Result, raw)
	}
}

// Whatever is done to the guest program from inside, exec comes back: its server
// crashes, its supervisor does, all of its cgroup is killed, memory is exhausted.
func TestServerCrash(t *testing.T) {
	b := common(t)
	b.boot("phoenix")
	b.booted("phoenix") // the cgroups can be seen
	server := func() string { return b.in("phoenix", "pgrep -f '^@banger-guest serve'") }
	supervisor := func() string { return b.in("phoenix", "pgrep -f '^@banger-guest supervise'") }
	unwatched := func() (watches string) {
		old, serves := supervisor(), server()
		b.in("phoenix", "kill -9 "+old+"; timeout 60 sh -c 'until pgrep -f \"^@banger-guest supervise\" | grep -vx "+old+"; do sleep 0.1; done'")
		if now := server(); now != serves {
			t.Errorf("with its supervisor the server %s was replaced by %s", serves, now)
		}
		watches = supervisor()
		if group := b.in("phoenix", "cut -d: -f3 /proc/"+watches+"/cgroup"); group != "/banger-supervisor" {
			t.Errorf("the supervisor that was started again is in %s", group)
		}
		return watches
	}
	unwatched()
	watches := unwatched() // twice, and from here on it watches a server that it did not start
	for _, c := range []struct {
		name, script string
		dies         bool // the server, and the command with it
	}{
		{"a crash", "kill -9 " + server(), true},
		{"its cgroup killed", "echo 1 >/sys/fs/cgroup/$(cut -d: -f3 /proc/self/cgroup)/cgroup.kill; sleep 60", true},
		{"once more, now that it was started again", "echo 1 >/sys/fs/cgroup/$(cut -d: -f3 /proc/self/cgroup)/cgroup.kill; sleep 60", true},
		{"memory exhausted", `exec perl -e 'push @all, "x" x (4 << 20) while 1'`, false},
	} {
		old := server()
		r := b.run("vm", "exec", "-n", "phoenix", "--", "sh", "-c", c.script)
		if want := map[bool]int{false: 137, true: 125}[c.dies]; r.code != want {
			t.Errorf("%s: the command ended with exit code %d, want %d\n%s", c.name, r.code, want, r.err)
		}
		if now := server(); (now == old) == c.dies {
			t.Errorf("%s: the server was process %s, is %s", c.name, old, now)
		}
		if now := supervisor(); now != watches {
			t.Errorf("%s: the supervisor was process %s, is %s", c.name, watches, now)
		}
	}
	unwatched() // by a server that a supervisor started
	if group := b.in("phoenix", "cut -d: -f3 /proc/self/cgroup"); group != "/banger" {
		t.Errorf("the server that was started again is in %s", group)
	}
}
