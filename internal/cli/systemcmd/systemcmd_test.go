package systemcmd_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"banger"
	"banger/internal/api"
	"banger/internal/api/client"
	"banger/internal/cli/launch"
	"banger/internal/cli/streams"
	"banger/internal/cli/systemcmd"

	"github.com/spf13/cobra"
)

// fake is an installation whose daemon runs or does not, and what was done.
type fake struct {
	running bool
	report  api.DoctorReport
	vms     []banger.VM
	later   []banger.VM // that come after a first look at them
	log     string
	done    []string
	daemons []func(on func(banger.VMEvent) error) error // what each daemon in turn answers to who follows events
	broken  error                                       // what is wrong with the configuration
	status  api.Status
	host    fakeHost
}

func (f *fake) Connect(context.Context) (systemcmd.Client, error) {
	if !f.running {
		f.done = append(f.done, "started")
	}
	f.running = true
	return f, nil
}

func (f *fake) Find(context.Context) (systemcmd.Client, error) {
	if !f.running {
		return nil, launch.ErrNone
	}
	return f, nil
}

func (f *fake) Check() error { return f.broken }

func (f *fake) Stop(context.Context) error {
	if !f.running {
		return launch.ErrNone
	}
	f.running = false
	f.done = append(f.done, "stopped")
	return nil
}

func (f *fake) Install(context.Context) (string, error) {
	f.done = append(f.done, "installed")
	return "/units/bangerd.service", nil
}

func (f *fake) Uninstall(context.Context) error {
	f.done = append(f.done, "uninstalled")
	return nil
}

func (f *fake) DaemonStatus(context.Context) (api.Status, error) {
	s := f.status
	s.PID, s.Build, s.Log = 77, "b1", f.log
	return s, nil
}

func (f *fake) MayHaveRoot() bool { return false }

func (f *fake) Doctor(_ context.Context, r api.DoctorRequest) (api.DoctorReport, error) {
	f.done = append(f.done, strings.TrimSpace("doctor "+r.For+" "+r.Bundle))
	return f.report, nil
}

func (f *fake) ShowNetwork(context.Context) (api.NetworkInfo, error) {
	return api.NetworkInfo{Subnet: "10.9.0.0/20", Gateway: "10.9.0.1", Overlaps: []string{"10.9.1.0/24"}}, nil
}

func (f *fake) MoveNetwork(_ context.Context, r api.NetworkMoveRequest) (api.NetworkInfo, error) {
	f.done = append(f.done, "move "+r.Subnet)
	return api.NetworkInfo{Subnet: r.Subnet}, nil
}

func (f *fake) Events(_ context.Context, from int64, follow bool, on func(banger.VMEvent) error) error {
	f.done = append(f.done, fmt.Sprintf("events from %d, %v", from, follow))
	next := f.daemons[0]
	f.daemons = f.daemons[1:]
	return next(on)
}

func (f *fake) ListVMs(context.Context) ([]banger.VM, error) {
	now := f.vms
	f.vms, f.later = append(f.vms, f.later...), nil
	return now, nil
}

func (f *fake) StopVM(_ context.Context, r api.StopRequest) (*client.Op[banger.VM], error) {
	f.done = append(f.done, "stop "+r.VM)
	return nil, banger.Errorf(banger.Busy, "%s is busy", r.VM)
}

func (f *fake) DeleteVM(_ context.Context, r api.DeleteRequest) (*client.Op[banger.VM], error) {
	f.done = append(f.done, fmt.Sprintf("delete %s, force %v", r.VM, r.Force))
	return nil, banger.Errorf(banger.NotFound, "no VM %s", r.VM) // somebody was faster
}

func (f *fake) run(t *testing.T, io *streams.Streams, args string) error {
	t.Helper()
	root := &cobra.Command{Use: "banger", SilenceErrors: true, SilenceUsage: true}
	root.AddCommand(systemcmd.New(systemcmd.Env{IO: io, Daemon: f, Host: &f.host, Log: func() (string, error) { return f.log, nil }})...)
	root.SetArgs(strings.Fields(args))
	return root.ExecuteContext(t.Context())
}

func TestDaemon(t *testing.T) {
	for _, c := range []struct {
		args    string
		running bool
		done    string
		said    string
		code    banger.Code
	}{
		{"daemon status", false, "", "", banger.HostUnready},
		{"daemon start", false, "started", "bangerd runs (process 77)\n", ""},
		{"daemon start", true, "", "bangerd runs (process 77)\n", ""},
		{"daemon stop", false, "", "bangerd does not run\n", ""},
		{"daemon stop", true, "stopped", "", ""},
		{"daemon restart", false, "started", "bangerd runs (process 77)\n", ""},
		{"daemon install", false, "installed", "", ""},
		{"daemon uninstall", true, "uninstalled", "", ""},
		{"daemon restart", true, "stopped, started", "bangerd runs (process 77)\n", ""},
	} {
		f := &fake{running: c.running}
		s, _, _, errs := streams.Test()
		err := f.run(t, s, c.args)
		if got := strings.Join(f.done, ", "); banger.CodeOf(err) != c.code || got != c.done || errs.String() != c.said {
			t.Errorf("%s, running %v: %v, %s, %q", c.args, c.running, err, got, errs)
		}
	}
}

// A daemon that runs is not ended when none could take its place.
func TestRestartWithABrokenConfiguration(t *testing.T) {
	f := &fake{running: true, broken: banger.Errorf(banger.Invalid, "config.toml:2: unknown key")}
	s, _, _, _ := streams.Test()
	if err := f.run(t, s, "daemon restart"); banger.CodeOf(err) != banger.Invalid || f.done != nil {
		t.Errorf("%v, %v", err, f.done)
	}
	if err := f.run(t, s, "daemon stop"); err != nil {
		t.Errorf("stop: %v", err)
	}
}

// What ends with the daemon, and what it waits for, is said before.
func TestEndTellsWhatIsUnderWay(t *testing.T) {
	for _, args := range []string{"daemon stop", "daemon restart"} {
		f := &fake{running: true, status: api.Status{Ops: 1, Streams: 1, UnderWay: []string{"bundle.build /b", "vm.exec web"}}}
		s, _, _, errs := streams.Test()
		want := `under way: bundle.build /b, vm.exec web
bangerd waits up to 30s for the operations, then takes back what was begun
commands, copies and followed logs end with bangerd; VMs go on
`
		if err := f.run(t, s, args); err != nil || !strings.HasPrefix(errs.String(), want) {
			t.Errorf("%s: %v\n%s", args, err, errs)
		}
	}
}

func TestNetwork(t *testing.T) {
	f := &fake{running: true}
	s, _, out, _ := streams.Test()
	if err := f.run(t, s, "network show"); err != nil || !strings.Contains(out.String(), "10.9.1.0/24") || !strings.Contains(out.String(), "none") {
		t.Errorf("show: %v\n%s", err, out)
	}
	out.Reset()
	if err := f.run(t, s, "network move 10.77.0.0/20 -o json"); err != nil || !strings.Contains(out.String(), `"subnet": "10.77.0.0/20"`) {
		t.Errorf("move: %v\n%s", err, out)
	}
	if err := f.run(t, s, "network move 10.77.0.0"); banger.CodeOf(err) != banger.Invalid {
		t.Errorf("move to an address: %v", err)
	}
	if got := strings.Join(f.done, ", "); got != "move 10.77.0.0/20" {
		t.Errorf("asked for %s", got)
	}
}

// Who follows events goes on under the next daemon, where it was, and starts
// none.
func TestEvents(t *testing.T) {
	tell := func(n int64) func(func(banger.VMEvent) error) error {
		return func(on func(banger.VMEvent) error) error {
			if err := on(banger.VMEvent{N: n, Type: banger.VMReady, VM: "0a1b2c3d", Name: "web"}); err != nil {
				return err
			}
			return banger.Errorf(banger.Lost, "connection lost")
		}
	}
	refused := func(func(banger.VMEvent) error) error { return launch.ErrNone }
	ends := func(func(banger.VMEvent) error) error { return banger.Errorf(banger.Internal, "enough") }
	line := func(n int) string {
		return fmt.Sprintf(`{"n":%d,"at":"0001-01-01T00:00:00Z","type":"ready","vm":"0a1b2c3d","name":"web"}`+"\n", n)
	}
	for args, c := range map[string]struct {
		daemons             []func(func(banger.VMEvent) error) error
		done, out, err, how string
	}{
		"events":             {[]func(func(banger.VMEvent) error) error{tell(7)}, "events from 0, false", line(7), "", "connection lost"},
		"events -f --from 3": {[]func(func(banger.VMEvent) error) error{tell(7), refused, tell(9), ends}, "events from 3, true; events from 8, true; events from 8, true; events from 10, true", line(7) + line(9), "bangerd has ended; waiting for the next one\nbangerd has ended; waiting for the next one\n", "enough"},
	} {
		f := &fake{running: true, daemons: c.daemons}
		s, _, out, errs := streams.Test()
		err := f.run(t, s, args)
		if got := strings.Join(f.done, "; "); err == nil || err.Error() != c.how || got != c.done || out.String() != c.out || errs.String() != c.err {
			t.Errorf("%s: %v\n%s\n%s%s", args, err, got, out, errs)
		}
	}
	f := &fake{running: true}
	s, _, _, _ := streams.Test()
	if err := f.run(t, s, "events --from -1"); banger.CodeOf(err) != banger.Invalid || f.done != nil {
		t.Errorf("--from -1: %v, %q", err, f.done)
	}
}

// Who follows a log that nobody reads any more ends, though nothing is added to it.
func TestLogsWithoutAReader(t *testing.T) {
	f := &fake{log: filepath.Join(t.TempDir(), "log")}
	if err := os.WriteFile(f.log, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	r.Close()
	ended := make(chan error, 1)
	go func() { ended <- f.run(t, streams.FromFiles(os.Stdin, w, os.Stderr), "daemon logs -f") }()
	select {
	case err := <-ended:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(20 * time.Second):
		t.Error("it goes on")
	}
}

// A VM that does not stop keeps its daemon.
func TestStopAll(t *testing.T) {
	f := &fake{vms: []banger.VM{
		{ID: "00000001", State: banger.StateRunning},
		{ID: "00000002", State: banger.StateStopped},
		{ID: "00000003", State: banger.StateStarting},
	}}
	s, _, _, _ := streams.Test()
	err := f.run(t, s, "daemon stop --all")
	if got := strings.Join(f.done, ", "); got != "started, stop 00000001, stop 00000003" || banger.CodeOf(err) != banger.Busy {
		t.Errorf("%s, %v", got, err)
	}
}

func TestStatus(t *testing.T) {
	for args, want := range map[string]string{"daemon status": "PID         77\n", "daemon status -o yaml": "api: 0\nbuild: b1\n"} {
		s, _, out, _ := streams.Test()
		if err := (&fake{running: true}).run(t, s, args); err != nil || !strings.HasPrefix(out.String(), want) {
			t.Errorf("%s: %v\n%s", args, err, out)
		}
	}
	f := &fake{running: true, status: api.Status{Streams: 1, UnderWay: []string{"vm.exec web"}, StartedAt: "2026-01-02T03:04:05Z"}}
	s, _, out, _ := streams.Test()
	err := f.run(t, s, "daemon status")
	started := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC).Local().Format(time.DateTime)
	for _, want := range []string{"Streams     1\n", "Under way   vm.exec web\n", "Started     " + started + "\n"} {
		if err != nil || !strings.Contains(out.String(), want) {
			t.Errorf("no %q: %v\n%s", want, err, out)
		}
	}
}

func TestDoctor(t *testing.T) {
	report := api.DoctorReport{Checks: []api.Check{
		{Name: "qemu", Status: "ok", Message: "8.0"},
		{Name: "bundle", Status: "failed", Message: "there is none\x1b", Remedy: "banger bundle build"},
	}}
	f := &fake{report: report}
	s, _, out, _ := streams.Test()
	err := f.run(t, s, "doctor --for vm-start")
	want := `STATUS  CHECK   RESULT
ok      qemu    8.0
failed  bundle  there is none\x1b
                -> banger bundle build
`
	if banger.CodeOf(err) != banger.HostUnready || out.String() != want || f.done[1] != "doctor vm-start" {
		t.Errorf("%v, %q\n%s", err, f.done, out)
	}
	f.report.OK = true
	s, _, out, _ = streams.Test()
	s.LookupEnv = func(name string) (string, bool) { return "/my/bundle", name == "BANGER_RUNTIME_DIR" }
	err = f.run(t, s, "doctor -o json")
	if got := f.done[len(f.done)-1]; got != "doctor  /my/bundle" {
		t.Errorf("asked for %q", got)
	}
	var got api.DoctorReport
	if err != nil || json.Unmarshal(out.Bytes(), &got) != nil || len(got.Checks) != 2 {
		t.Errorf("%v\n%s", err, out)
	}
}

func TestLogs(t *testing.T) {
	f := &fake{log: filepath.Join(t.TempDir(), "daemon.log")}
	s, _, out, _ := streams.Test()
	if err := f.run(t, s, "daemon logs"); banger.CodeOf(err) != banger.NotFound {
		t.Errorf("no log: %v", err)
	}
	if err := os.WriteFile(f.log, []byte("one\x1b\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := f.run(t, s, "daemon logs"); err != nil || out.String() != "one\x1b\n" {
		t.Errorf("%v, %q", err, out)
	}
	out.Reset()
	s.OutTerm = true
	if err := f.run(t, s, "daemon logs"); err != nil || out.String() != "one\\x1b\n" {
		t.Errorf("on a terminal: %v, %q", err, out)
	}
}

// What is added is shown, also after the daemon cut its log, until Ctrl-C.
func TestLogsFollow(t *testing.T) {
	f := &fake{log: filepath.Join(t.TempDir(), "daemon.log")}
	write := func(text string) {
		if err := os.WriteFile(f.log, []byte(text), 0o600); err != nil {
			t.Error(err)
		}
	}
	write("first, a long line\n")
	ctx, interrupt := context.WithCancel(t.Context())
	s, _, _, _ := streams.Test()
	var got bytes.Buffer
	s.Out = writer(func(p []byte) {
		got.Write(p)
		switch got.String() {
		case "first, a long line\n":
			write("cut\n")
		case "first, a long line\ncut\n":
			interrupt()
		}
	})
	root := &cobra.Command{Use: "banger"}
	root.AddCommand(systemcmd.New(systemcmd.Env{IO: s, Daemon: f, Log: func() (string, error) { return f.log, nil }})...)
	root.SetArgs([]string{"daemon", "logs", "-f"})
	if err := root.ExecuteContext(ctx); err != nil {
		t.Errorf("%v, %q", err, got.String())
	}
}

type writer func([]byte)

func (w writer) Write(p []byte) (int, error) { w(p); return len(p), nil }

func TestVersion(t *testing.T) {
	for args, want := range map[string]string{"version": "banger ", "version -o json": "{\n  \"version\": "} {
		s, _, out, _ := streams.Test()
		if err := (&fake{}).run(t, s, args); err != nil || !strings.HasPrefix(out.String(), want) {
			t.Errorf("%s: %v, %q", args, err, out)
		}
	}
}
