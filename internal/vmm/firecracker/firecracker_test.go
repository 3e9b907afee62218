package firecracker_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"banger"
	"banger/internal/host"
	"banger/internal/vmm"
	"banger/internal/vmm/firecracker"
	"banger/internal/vmm/kvm"
	"banger/internal/vmm/vmmtest"
)

const limit = 30 * time.Second

func backendOn(t *testing.T, h *host.Host, log *slog.Logger) *firecracker.Backend {
	t.Helper()
	return backendWith(t, h, kvm.New(os.Geteuid(), nil), log)
}

func backendWith(t *testing.T, h *host.Host, device *kvm.Device, log *slog.Logger) *firecracker.Backend {
	t.Helper()
	w, err := host.NewWatcher()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := w.Close(); err != nil {
			t.Error(err)
		}
	})
	return firecracker.New(firecracker.Config{Host: h, Watcher: w, KVM: device, UID: os.Geteuid(), Now: time.Now, Log: log})
}

// standInBackend returns a backend whose Firecracker is the stand-in.
func standInBackend(t *testing.T) *firecracker.Backend {
	t.Helper()
	return standInLogging(t, slog.New(slog.DiscardHandler))
}

func standInLogging(t *testing.T, log *slog.Logger) *firecracker.Backend {
	t.Helper()
	b := backendOn(t, standInHost(t), log)
	b.PretendKVM()
	return b
}

// standInHost has the stand-in in its PATH.
func standInHost(t *testing.T) *host.Host {
	t.Helper()
	return host.New(vmmtest.StandIn(t, tool))
}

func exampleMachine() vmm.Machine {
	return vmm.Machine{
		VM: "0a1b2c3d", Name: "web", Launch: "00112233445566fc", Dir: "/s/vms/0a1b2c3d",
		Kernel: "/s/blobs/k", VMLinux: "/s/blobs/elf", Initrd: "/r/i", Cmdline: []string{"quiet", "panic=1"}, CPUs: 2, Memory: 1 << 30,
		Disks: []vmm.Disk{
			{Path: "/dev/mapper/banger-1", Format: banger.FormatRaw},
			{Path: "/s/blobs/m", Format: banger.FormatRaw, ReadOnly: true},
		},
		Net:  banger.Endpoint{Tap: "b-0a1b2c3d"},
		Addr: "172.30.0.3", GuestPort: 5122, MAC: "52:54:00:00:00:01", SerialLog: "/s/serial.log", VMMLog: "/s/vmm.log",
	}
}

// standInMachine is a machine for the stand-in, which does what.
func standInMachine(t *testing.T, what string) vmm.Machine {
	t.Helper()
	m := exampleMachine()
	m.Owner = vmmtest.Owner()
	vmmtest.Place(t, &m)
	write(t, filepath.Join(m.Dir, "standin"), what)
	return m
}

func start(t *testing.T, what string) vmm.Process {
	t.Helper()
	return vmmtest.Start(t, standInBackend(t), standInMachine(t, what))
}

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestArgv(t *testing.T) {
	got := strings.Join(firecracker.Argv(exampleMachine(), "/s/vms/0a1b2c3d/api.sock"), " ")
	want := "--id banger-00112233445566fc --api-sock /s/vms/0a1b2c3d/api.sock" +
		" --log-path /s/vms/0a1b2c3d/firecracker.log --level Info --show-level --metrics-path /s/vms/0a1b2c3d/firecracker.metrics"
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// All that the API is asked for, in order and to the letter.
func TestRequests(t *testing.T) {
	var log bytes.Buffer
	b := standInLogging(t, slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug})))
	m := standInMachine(t, "")
	// What the SDK would do to these through a map: drop the first console, lose the order.
	m.Cmdline = []string{"quiet", "console=tty0", "panic=1", "a=1", "b", "a=2"}
	p, err := b.Start(t.Context(), m, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	want := `PUT /machine-config {"mem_size_mib":1024,"smt":false,"vcpu_count":2}
GET /machine-config
PUT /boot-source {"boot_args":"quiet console=tty0 panic=1 a=1 b a=2 console=ttyS0 reboot=k i8042.noaux i8042.nomux i8042.dumbkbd","initrd_path":"/r/i","kernel_image_path":"/s/blobs/elf"}
PUT /drives/disk0 {"cache_type":"Writeback","drive_id":"disk0","is_read_only":false,"is_root_device":false,"path_on_host":"/dev/mapper/banger-1"}
PUT /drives/disk1 {"cache_type":"Writeback","drive_id":"disk1","is_read_only":true,"is_root_device":false,"path_on_host":"/s/blobs/m"}
PUT /network-interfaces/1 {"guest_mac":"52:54:00:00:00:01","host_dev_name":"b-0a1b2c3d","iface_id":"1"}
PUT /vsock {"guest_cid":3,"uds_path":"` + filepath.Join(m.Dir, "vsock") + `","vsock_id":"vsock"}
PUT /entropy {}
PUT /actions {"action_type":"InstanceStart"}
`
	if got := read(t, filepath.Join(m.Dir, "requests")); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	argv, err := host.Inspect(host.ProcID{PID: p.Handle().PID, Started: p.Handle().Started})
	if err != nil || strings.Contains(strings.Join(argv.Argv, " "), "no-seccomp") {
		t.Errorf("argv %v, %v", argv.Argv, err)
	}
	if s := log.String(); !strings.Contains(s, "level=DEBUG msg=firecracker-go-sdk") || strings.Contains(s, "level=INFO") {
		t.Errorf("the SDK's words: %s", s)
	}
	vmmtest.Kill(t, p)
}

// A VMM has a session of its own: no terminal's ^C reaches it, and none of the
// signals that the SDK would catch and pass on do.
func TestOwnSession(t *testing.T) {
	p := start(t, "")
	sid, err := unix.Getsid(p.Handle().PID)
	if err != nil || sid != p.Handle().PID {
		t.Errorf("session %d of process %d, %v", sid, p.Handle().PID, err)
	}
	got := make(chan os.Signal, 1)
	notify(t, got, unix.SIGHUP)
	if err := unix.Kill(os.Getpid(), unix.SIGHUP); err != nil {
		t.Fatal(err)
	}
	<-got
	if !host.Alive(host.ProcID{PID: p.Handle().PID, Started: p.Handle().Started}) {
		t.Error("it went with a signal to us")
	}
	vmmtest.Kill(t, p)
	if e := vmmtest.Wait(t, p); e.Cause != banger.ExitKilled {
		t.Errorf("exit %+v", e)
	}
}

func TestWhatItCannot(t *testing.T) {
	b := standInBackend(t)
	for name, spoil := range map[string]func(*vmm.Machine){
		"format qcow2":     func(m *vmm.Machine) { m.Disks[0].Format = banger.FormatQCOW2 },
		"needs a tap":      func(m *vmm.Machine) { m.Net = banger.Endpoint{User: &banger.UserNet{}} },
		"an ELF vmlinux":   func(m *vmm.Machine) { m.VMLinux = "" },
		"path of the API":  func(m *vmm.Machine) { m.Dir = "/" + strings.Repeat("x", 100) },
		"open the serial":  func(m *vmm.Machine) { m.SerialLog = "/dev/full/serial.log" },
		"open the log of ": func(m *vmm.Machine) { m.VMMLog = "/dev/full/vmm.log" },
	} {
		m := standInMachine(t, "")
		spoil(&m)
		_, err := b.Start(t.Context(), m, nil)
		if err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Each way in which a start can go wrong ends soon, leaves no process, and says
// what it was. standInMachine looks for processes.
func TestStartFails(t *testing.T) {
	for what, want := range map[string]string{
		"die":                         `Firecracker exited with code 3 at once: second \x1b[2J; third`,
		"zero":                        "Firecracker exited with code 0 at once",
		"mute":                        "did not start its guest within 300ms",
		"refuse":                      "connection refused",
		"fault:PUT /drives/disk1":     `Firecracker refused PUT /drives/disk1: no \x1b[1m such thing`,
		"fault:PUT /machine-config":   `Firecracker refused PUT /machine-config: no \x1b[1m such thing`,
		"fault:PUT /actions":          `Firecracker refused PUT /actions: no \x1b[1m such thing`,
		"garbage:PUT /boot-source":    "Firecracker refused PUT /boot-source: status 500",
		"flood:PUT /boot-source":      "Firecracker refused PUT /boot-source: status 400",
		"hang:PUT /machine-config":    "did not start its guest within 300ms",
		"hang:GET /machine-config":    "did not start its guest within 300ms", // the SDK passes no ctx
		"hang:PUT /network":           "did not start its guest within 300ms",
		"hang:PUT /actions":           "did not start its guest within 300ms", // nor a time limit
		"vanish:PUT /drives/disk0":    "Firecracker exited with code 148 at once",
		"vanish:PUT /actions":         "Firecracker exited with code 148 at once",
		"vanish:GET /machine-config ": "", // no such request: it starts
	} {
		t.Run(what, func(t *testing.T) {
			b := standInBackend(t)
			b.SetLimits(300*time.Millisecond, limit)
			if want == "" || !strings.Contains(want, "within") {
				b.SetLimits(limit, limit)
			}
			m := standInMachine(t, what)
			var h banger.Handle
			p, err := b.Start(t.Context(), m, func(l banger.Handle) error { h = l; return nil })
			if want == "" {
				if err != nil {
					t.Fatal(err)
				}
				vmmtest.Kill(t, p)
				p.Close()
				return
			}
			if err == nil {
				vmmtest.Kill(t, p)
				p.Close()
				t.Fatal("it started")
			}
			if !strings.Contains(err.Error(), want) {
				t.Errorf("got %q, want %q", err, want)
			}
			if host.Alive(host.ProcID{PID: h.PID, Started: h.Started}) {
				t.Error("it lives")
			}
			if _, err := os.Lstat(filepath.Join(m.Dir, "api.sock")); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("its socket: %v", err)
			}
		})
	}
}

// The SDK's own patience ends after half a second, for drives after a quarter.
func TestStartSlow(t *testing.T) {
	for _, what := range []string{"slow:PUT /machine-config", "slow:GET /machine-config", "slow:PUT /drives/disk0"} {
		vmmtest.Kill(t, start(t, what))
	}
}

func TestStartForbidden(t *testing.T) {
	if os.Geteuid() == 0 {
		t.Skip("needs an ordinary user: root may connect to any socket")
	}
	began := time.Now()
	_, err := standInBackend(t).Start(t.Context(), standInMachine(t, "forbid"), nil)
	if !errors.Is(err, os.ErrPermission) {
		t.Errorf("after %s: %v", time.Since(began), err)
	}
}

func TestStartCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	_, err := standInBackend(t).Start(ctx, standInMachine(t, "mute"), func(banger.Handle) error { cancel(); return nil })
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestNotRecorded(t *testing.T) {
	full := errors.New("database is full")
	if _, err := standInBackend(t).Start(t.Context(), standInMachine(t, ""), func(banger.Handle) error { return full }); !errors.Is(err, full) {
		t.Errorf("got %v", err)
	}
}

// A request's end does not end what it has started.
func TestOutlivesRequest(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	p, err := standInBackend(t).Start(ctx, standInMachine(t, ""), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	cancel()
	if err := p.Shutdown(t.Context()); err != nil { // it answers
		t.Fatal(err)
	}
	if e := vmmtest.Wait(t, p); e.Cause != banger.ExitGuest {
		t.Errorf("exit %+v", e)
	}
}

func TestStaleSocket(t *testing.T) {
	m := standInMachine(t, "")
	l, err := net.Listen("unix", filepath.Join(m.Dir, "api.sock"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := standInBackend(t).Start(t.Context(), m, nil); banger.CodeOf(err) != banger.Busy {
		t.Errorf("beside another: %v", err)
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	p, err := standInBackend(t).Start(t.Context(), m, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	vmmtest.Kill(t, p)
}

func TestStartAsRoot(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: is refused as root")
	}
	b := standInBackend(t)
	for _, o := range []*banger.Owner{nil, {}} {
		m := standInMachine(t, "")
		m.Owner = o
		if _, err := b.Start(t.Context(), m, nil); err == nil || !strings.Contains(err.Error(), "never runs as root") {
			t.Errorf("%v: %v", o, err)
		}
	}
}
