package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"banger"
	"banger/internal/guest"
	"banger/internal/guestapi"
	"banger/internal/host"
	"banger/internal/initramfs"
	"banger/internal/vmm"
	"banger/internal/vmm/kvm"
	"banger/internal/vmm/qemu"
	"banger/test/sandbox"
)

// A bare VM is the guest program under the VMM, with disks as a daemon would
// never attach them.
type bare struct {
	machine vmm.Machine
	id      guestapi.Identity
	cfg     guest.Config
}

const bareLaunch = "00112233445566ff"

func newBare(t *testing.T, disks ...vmm.Disk) *bare {
	t.Helper()
	need(t)
	dir, err := os.MkdirTemp("", "bare") // short, and open to the VMM's user
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	vmDir := filepath.Join(dir, "vm")
	if err := errors.Join(os.Chmod(dir, 0o711), os.Mkdir(vmDir, 0o700)); err != nil {
		t.Fatal(err)
	}
	hostPEM, hostKey := newKey(t)
	userPEM, userKey := newKey(t)
	signer, err := ssh.ParsePrivateKey([]byte(userPEM))
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := netip.MustParseAddrPort(l.Addr().String())
	l.Close()
	b := &bare{
		id: guestapi.Identity{
			Version: guestapi.Version, VM: "0a1b2c3d", Launch: bareLaunch, Hostname: "bare", MachineID: strings.Repeat("ab", 16),
			MAC: "52:54:00:12:34:56", Address: netip.MustParsePrefix("172.30.0.3/32"), Gateway: netip.MustParseAddr("172.30.0.1"),
			Resolvers: []netip.Addr{netip.MustParseAddr("172.30.0.2")}, HostKey: hostPEM, AuthorizedKeys: []string{guest.AuthorizedKey(userKey)},
		},
		cfg: guest.Config{HostKey: hostKey, Signer: signer, Dial: func(ctx context.Context) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "tcp", port.String())
		}},
	}
	b.machine = vmm.Machine{
		VM: "0a1b2c3d", Name: "bare", Launch: bareLaunch, Dir: vmDir,
		Kernel: filepath.Join(sandbox.Runtime(), "vmlinuz"), Initrd: b.initrd(t, filepath.Join(dir, "initrd")),
		Cmdline: []string{"quiet", "panic=1", "net.ifnames=0", "cloud-init=disabled", "systemd.show_status=0"},
		CPUs:    1, Memory: 256 << 20, Disks: disks,
		Net: banger.Endpoint{SSH: port, User: &banger.UserNet{
			Subnet: netip.MustParsePrefix("172.30.0.0/20"), Gateway: b.id.Gateway, Resolver: b.id.Resolvers[0],
		}},
		Addr: "172.30.0.3", GuestPort: guestapi.Port, MAC: b.id.MAC,
		SerialLog: filepath.Join(vmDir, "serial.log"), VMMLog: filepath.Join(vmDir, "vmm.log"),
	}
	if os.Geteuid() == 0 {
		b.machine.Owner = &banger.Owner{UID: 0x70000002, GID: 0x70000002}
		if err := os.Chown(vmDir, 0x70000002, 0x70000002); err != nil {
			t.Fatal(err)
		}
	}
	return b
}

func newKey(t *testing.T) (string, ssh.PublicKey) {
	t.Helper()
	private, public, err := guest.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	return private, public
}

func (b *bare) initrd(t *testing.T, file string) string {
	t.Helper()
	identity, err := json.Marshal(b.id)
	if err != nil {
		t.Fatal(err)
	}
	program, err := os.Open(filepath.Join(sandbox.Root(), "bin", "banger-guest"))
	if err != nil {
		t.Fatal(err)
	}
	defer program.Close()
	base, err := os.Open(filepath.Join(sandbox.Runtime(), "initramfs.img"))
	if err != nil {
		t.Fatal(err)
	}
	defer base.Close()
	var joined bytes.Buffer
	if err := initramfs.Join(&joined, identity, program, base); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, joined.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	return file
}

// start starts it; at the test's end it is gone.
func (b *bare) start(t *testing.T) vmm.Process {
	t.Helper()
	w, err := host.NewWatcher()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.Close() })
	p, err := qemu.New(host.New(os.Getenv("PATH")), w, kvm.New(os.Geteuid(), nil), os.Geteuid(), time.Now).Start(t.Context(), b.machine, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(p.Kill(context.Background()), p.Close()); err != nil {
			t.Error(err)
		}
	})
	return p
}

// A root disk that is missing gets a plain answer and an orderly end.
func TestRootMissing(t *testing.T) {
	b := newBare(t)
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	exit, err := b.start(t).Wait(ctx)
	if err != nil || exit.Cause != banger.ExitGuest || exit.Reboot || exit.Detail != "" {
		t.Errorf("ended as %+v, %v", exit, err)
	}
	said, err := os.ReadFile(b.machine.SerialLog)
	if err != nil || !strings.Contains(string(said), "banger-guest: cannot boot: root disk /dev/vda: ") ||
		!strings.Contains(string(said), "no such file") || strings.Contains(string(said), "panic") {
		t.Errorf("the console says %q, %v", said, err)
	}
}

// A root disk that cannot be written is said to be so, and used: what makes the
// VM this VM is put over its files.
func TestRootReadOnly(t *testing.T) {
	b := newBare(t,
		vmm.Disk{Path: filepath.Join(sandbox.Runtime(), "debian-12.ext4"), Format: banger.FormatRaw, ReadOnly: true},
		vmm.Disk{Path: filepath.Join(sandbox.Runtime(), "modules.ext4"), Format: banger.FormatRaw, ReadOnly: true})
	p := b.start(t)
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		p.Wait(ctx)
	}()
	c, _, err := guest.WaitReady(ctx, b.cfg, gone)
	if err != nil {
		said, _ := os.ReadFile(b.machine.SerialLog)
		t.Fatalf("%v\n%s", err, said)
	}
	defer c.Close()
	var out bytes.Buffer
	script := `hostname; cat /etc/hostname /etc/machine-id; touch /file 2>/dev/null || echo read-only; ip -4 -o addr show dev eth0`
	exit, err := c.Exec(ctx, guestapi.Exec{Argv: []string{"sh", "-c", script}}, guest.Streams{Stdout: &out, Stderr: &out})
	want := "bare\nbare\n" + b.id.MachineID + "\nread-only\n"
	if err != nil || exit.Code != 0 || !strings.HasPrefix(out.String(), want) || !strings.Contains(out.String(), "172.30.0.3/32") {
		t.Errorf("in the guest: %+v, %v: %q", exit, err, out.String())
	}
	if said, err := os.ReadFile(b.machine.SerialLog); err != nil || !strings.Contains(string(said), "the root file system is read-only") {
		t.Errorf("the console says %q, %v", said, err)
	}
}
