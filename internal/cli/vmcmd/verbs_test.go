package vmcmd_test

import (
	"context"
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"banger"
	"banger/internal/api"
)

func TestVerbs(t *testing.T) {
	all := []banger.VM{named("a", banger.StateRunning), named("b", banger.StateStopped), named("c", banger.StateStarting)}
	done := operation{result: web, events: []banger.Event{
		{Type: banger.EventStep, Step: "guest"}, {Type: banger.EventStepDone, Step: "guest", Elapsed: time.Second},
	}}
	for _, c := range []struct {
		args, sent, out, err string
	}{
		{"vm start web", `vm.start {"vm":"web"}`, "web\n", "guest\n"},
		{"start web web", `vm.start {"vm":"web"}`, "web\n", "guest\n"},
		{"vm start --all", "vm.list {}\n" + `vm.start {"vm":"b"}`, "web\n", "guest\n"},
		{"vm stop web", `vm.stop {"vm":"web"}`, "web\n", "guest\n"},
		{"stop web --timeout 90s", `vm.stop {"vm":"web","timeout_seconds":90}`, "web\n", "guest\n"},
		{"stop web --timeout 0", `vm.stop {"vm":"web","timeout_seconds":0}`, "web\n", "guest\n"},
		{"vm restart web", `vm.restart {"vm":"web"}`, "web\n", "guest\n"},
		{"vm restart web --timeout 90s", `vm.restart {"vm":"web","timeout_seconds":90}`, "web\n", "guest\n"},
		{"vm kill web", `vm.kill {"vm":"web"}`, "web\n", "guest\n"},
		{"vm reset web", `vm.reset {"vm":"web"}`, "web\n", "guest\n"},
		{"vm reset --all", "vm.list {}\n" + `vm.reset {"vm":"b"}`, "web\n", "guest\n"},
		{"vm delete web", `vm.delete {"vm":"web"}`, "web\n", "guest\n"},
		{"rm -f web", `vm.delete {"vm":"web","force":true}`, "web\n", "guest\n"},
		{"vm wait web", `vm.wait {"vm":"web","for":"ready"}`, "", "guest\n"},
		{"vm wait web --for booted --timeout 1m", `vm.wait {"vm":"web","for":"booted","timeout_seconds":60}`, "", "guest\n"},
		{"vm set web --memory 2G", `vm.set {"vm":"web","memory_bytes":2147483648}`, "web\n", ""},
		{"vm set web --name shop", `vm.set {"vm":"web","name":"shop"}`, "web\n", ""},
		{"vm set web --autostart", `vm.set {"vm":"web","autostart":true}`, "web\n", ""},
		{"vm set web --autostart=false", `vm.set {"vm":"web","autostart":false}`, "web\n", ""},
		{"vm create --autostart", `vm.create {"autostart":true}`, "web\n", "guest\n"},
		{"vm create", `vm.create {}`, "web\n", "guest\n"},
	} {
		s := newSession(t, map[string]any{
			api.VMStart: done, api.VMStop: done, api.VMRestart: done, api.VMKill: done, api.VMReset: done, api.VMDelete: done,
			api.VMWait: done, api.VMCreate: done, api.VMSet: web, api.VMList: all,
		})
		if err := s.run(t.Context(), strings.Fields(c.args)...); err != nil {
			t.Errorf("%s: %v", c.args, err)
		}
		if got := s.requests(); got != c.sent {
			t.Errorf("%s: sent %s, want %s", c.args, got, c.sent)
		}
		if s.out.String() != c.out || s.err.String() != c.err {
			t.Errorf("%s: printed %q, %q", c.args, s.out, s.err)
		}
	}
}

func TestEachTellsOfEveryVM(t *testing.T) {
	s := newSession(t, map[string]any{
		api.VMList: []banger.VM{named("a", banger.StateRunning), named("b", banger.StateRunning)},
		api.VMStop: operation{
			events: []banger.Event{{Type: banger.EventStepDone, Step: "vmm"}},
			err:    banger.Errorf(banger.Busy, "being deleted"),
		},
	})
	err := s.run(t.Context(), "vm", "stop", "--all")
	many, ok := err.(interface{ Unwrap() []error })
	if !ok || len(many.Unwrap()) != 2 || banger.CodeOf(err) != banger.Busy {
		t.Errorf("got %v", err)
	}
	for _, want := range []string{"a: vmm\n", "b: vmm\n"} {
		if !strings.Contains(s.err.String(), want) {
			t.Errorf("said %q, want %q in it", s.err, want)
		}
	}
}

func TestListAndShow(t *testing.T) {
	booting := named("new", banger.StateRunning)
	booting.Ready = false
	vms := []banger.VM{web, booting}
	for args, want := range map[string]string{
		"vm list -q": "",
		"vm list": `NAME  ID        STATE                IMAGE      CPUS  MEMORY  DISK   ADDRESS
web   0a1b2c3d  running              debian-12  2     1GiB    10GiB  invalid IP
new   0a1b2c3d  running (not ready)  debian-12  2     1GiB    10GiB  invalid IP
`,
	} {
		s := newSession(t, map[string]any{api.VMList: vms})
		if strings.Contains(args, "-q") {
			s.io.Quiet, args, want = true, "vm list", "web\nnew\n"
		}
		if err := s.run(t.Context(), strings.Fields(args)...); err != nil || s.out.String() != want {
			t.Errorf("%s: %v\n%s", args, err, s.out)
		}
	}
	for _, args := range []string{"vm show web -o json", "vm create -o json"} {
		s := newSession(t, map[string]any{api.VMShow: web, api.VMCreate: operation{result: web}})
		if err := s.run(t.Context(), strings.Fields(args)...); err != nil {
			t.Fatal(err)
		}
		var got banger.VM
		if err := json.Unmarshal(s.out.Bytes(), &got); err != nil || !reflect.DeepEqual(got, web) {
			t.Errorf("%s: %v\n%s", args, err, s.out)
		}
	}
	s := newSession(t, map[string]any{api.VMList: []banger.VM{}})
	if err := s.run(t.Context(), "ps", "-o", "json"); err != nil || s.out.String() != "[]\n" {
		t.Errorf("no VMs: %v, %q", err, s.out)
	}
}

// Ctrl-C takes back what would be left half made, and leaves alone what has to
// come to its end.
func TestInterrupt(t *testing.T) {
	for _, c := range []struct {
		args      string
		cancelled bool
	}{
		{"vm create", true}, {"run -- true", true}, {"vm start web", true}, {"vm wait web", true},
		{"vm stop web", false}, {"vm delete web", false}, {"vm kill web", false}, {"vm restart web", false}, {"vm reset web", false},
	} {
		ctx, interrupt := context.WithCancel(t.Context())
		s := newSession(t, nil)
		op := operation{wait: true, events: []banger.Event{{Type: banger.EventStepDone, Step: "begun"}}}
		s.answers = map[string]any{
			api.VMCreate: op, api.VMStart: op, api.VMWait: op,
			api.VMStop: op, api.VMDelete: op, api.VMKill: op, api.VMReset: op, api.VMRestart: op,
		}
		s.io.Err = onWrite(interrupt)
		err := s.run(ctx, strings.Fields(c.args)...)
		if banger.CodeOf(err) != banger.Canceled {
			t.Errorf("%s: %v", c.args, err)
		}
		if !c.cancelled && err.Error() != "interrupted, but the daemon goes on with it" {
			t.Errorf("%s: said %q", c.args, err)
		}
		if c.args == "vm wait web" && err.Error() != "interrupted; nothing was changed" {
			t.Errorf("%s: said %q", c.args, err)
		}
		if got := strings.Contains(s.requests(), api.OpCancel); got != c.cancelled {
			t.Errorf("%s: cancelled %v, want %v", c.args, got, c.cancelled)
		}
		for _, ch := range s.ops { // whoever still follows it is to end
			ch <- banger.Event{Type: banger.EventDone}
		}
	}
}

// onWrite calls f at the first write: when a progress is shown.
type onWrite func()

func (f onWrite) Write(p []byte) (int, error) { f(); return len(p), nil }

func TestLogs(t *testing.T) {
	s := newSession(t, nil)
	if err := s.run(t.Context(), "logs", "web", "--vmm", "-f"); banger.CodeOf(err) != banger.NotFound {
		t.Errorf("got %v", err)
	}
	if got, want := s.requests(), `vm.logs {"vm":"web","which":"vmm","follow":true}`; got != want {
		t.Errorf("sent %s", got)
	}
}

func TestSSH(t *testing.T) {
	booting := web
	booting.Ready = false
	access := api.Access{
		VM: web, Host: "127.0.0.1", Port: 2000, User: "root", IdentityFile: "/id",
		HostPublicKey: "ssh-ed25519 AAAA",
	}
	s := newSession(t, map[string]any{api.VMShow: booting, api.VMWait: operation{result: web}, api.VMAccess: access})
	if err := s.run(t.Context(), "ssh", "web", "--", "ls", "-l"); err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(s.ssh, " "); !strings.HasSuffix(got, "-- web ls -l") || !strings.Contains(got, "Port=2000") {
		t.Errorf("got %s", got)
	}
	if want := "web is still booting; waiting until it is ready\n"; s.err.String() != want {
		t.Errorf("said %q", s.err)
	}
	s = newSession(t, map[string]any{api.VMShow: errors.New("gone")})
	if err := s.run(t.Context(), "ssh", "web"); banger.CodeOf(err) != banger.Internal || s.ssh != nil {
		t.Errorf("got %v, %q", err, s.ssh)
	}
}

// Who looks at a VM is told what its network is not, and why.
func TestShowNote(t *testing.T) {
	vm := web
	vm.Stack, vm.StackNote = "qemu", "QEMU's own stack: start passt: it failed"
	s := newSession(t, map[string]any{api.VMShow: vm})
	if err := s.run(t.Context(), "vm", "show", "web"); err != nil || !strings.Contains(s.out.String(), "by qemu\nNote ") || !strings.Contains(s.out.String(), vm.StackNote) {
		t.Errorf("%v\n%s", err, s.out)
	}
}
