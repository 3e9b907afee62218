package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"banger"
	"banger/test/sandbox"
)

// The guest program works in any root file system: here one with a shell and
// nothing else, neither an init nor an SSH server.
func TestImageWithoutInit(t *testing.T) {
	b := fresh(t)
	busybox, err := exec.LookPath("busybox")
	if err != nil {
		t.Fatalf("%v (apt install busybox-static)", err)
	}
	dir := bundleWith(t, b.Dir, "busybox", func(file string) {
		root := t.TempDir()
		for _, d := range []string{"bin", "etc", "root", "tmp"} {
			if err := os.Mkdir(filepath.Join(root, d), 0o755); err != nil {
				t.Fatal(err)
			}
		}
		command(t, "cp", "-L", busybox, filepath.Join(root, "bin", "busybox"))
		for _, name := range []string{"sh", "cat", "ps", "uname", "hostname"} {
			if err := os.Symlink("busybox", filepath.Join(root, "bin", name)); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.WriteFile(filepath.Join(root, "etc", "passwd"), []byte("root::0:0::/root:/bin/sh\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		command(t, "mke2fs", "-q", "-t", "ext4", "-E", "root_owner=0:0", "-d", root, file, "32M")
	})
	b.Set("BANGER_RUNTIME_DIR", dir)
	b.boot("bare", "--image", "busybox", "--disk", "64MiB")
	if got := b.in("bare", "hostname; ps | grep -c '[b]anger-guest'"); !strings.HasPrefix(got, "bare\n") {
		t.Errorf("in the guest: %q", got)
	}
	b.ok("vm", "ssh", "bare", "--", "uname", "-r")
	copiesWithoutTar(t, b)
	b.ok("vm", "wait", "bare", "--for", "booted", "--timeout", limit.String())
	b.ok("vm", "stop", "bare")
	if v := b.show("bare"); v.LastExit == nil || v.LastExit.Cause != banger.ExitGuest {
		t.Errorf("its stop is told as %+v", v.LastExit)
	}
	b.ok("vm", "start", "bare")
	b.in("bare", "true")
}

// An image whose network manager has other ideas: networkd with DHCP on every
// link drops, where nothing is done about it, the VM's address within seconds.
func TestImageWithDHCP(t *testing.T) {
	b := fresh(t)
	dir := bundleWith(t, b.Dir, "dhcp", func(file string) {
		command(t, "cp", "--sparse=always", filepath.Join(sandbox.Runtime(), "debian-12.ext4"), file)
		command(t, "chmod", "644", file)
		conf := filepath.Join(t.TempDir(), "all.network")
		if err := os.WriteFile(conf, []byte("[Match]\nName=eth* en*\n[Network]\nDHCP=yes\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		// The image has no udev; networkd waits for it to have seen a link.
		seen := filepath.Join(t.TempDir(), "seen.conf")
		const mark = `ExecStartPre=+/bin/sh -c 'mkdir -p /run/udev/data; echo I:1 >/run/udev/data/n$$(cat /sys/class/net/eth0/ifindex)'`
		if err := os.WriteFile(seen, []byte("[Service]\n"+mark+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		const dropIns = "/etc/systemd/system/systemd-networkd.service.d"
		command(t, "debugfs", "-w", "-R", "mkdir "+dropIns, file)
		command(t, "debugfs", "-w", "-R", "write "+seen+" "+dropIns+"/seen.conf", file)
		const wants = "/etc/systemd/system/multi-user.target.wants"
		command(t, "debugfs", "-w", "-R", "write "+conf+" /etc/systemd/network/50-all.network", file)
		command(t, "debugfs", "-w", "-R", "symlink "+wants+"/systemd-networkd.service /lib/systemd/system/systemd-networkd.service", file)
	})
	b.Set("BANGER_RUNTIME_DIR", dir)
	v := b.boot("fights", "--image", "dhcp")
	b.booted("fights")
	if got := b.in("fights", "systemctl is-active systemd-networkd"); got != "active" {
		t.Fatalf("networkd is %s: the test's image does not fight", got)
	}
	if got := b.in("fights", "networkctl --no-pager status eth0"); !strings.Contains(got, "(configured)") || !strings.Contains(got, "00-banger.network") {
		t.Errorf("networkd has not taken the link:\n%s", got)
	}
	// A minute of the guest's own time, then a new connection.
	got := b.in("fights", "sleep 60; ip -4 -o addr show dev eth0; ip route")
	if !strings.Contains(got, v.Addr.String()+"/32") || !strings.Contains(got, "default via") {
		t.Errorf("after a minute: %s", got)
	}
	if out := b.ok("vm", "ssh", "fights", "--", "hostname"); out != "fights\n" {
		t.Errorf("a new connection: %q", out)
	}
}

// A root that cannot be mounted gets a plain answer, not a kernel's panic.
func TestImageThatIsNone(t *testing.T) {
	b := fresh(t)
	dir := bundleWith(t, b.Dir, "zeros", func(file string) {
		if err := os.WriteFile(file, make([]byte, littleSize), 0o644); err != nil {
			t.Fatal(err)
		}
	})
	b.Set("BANGER_RUNTIME_DIR", dir)
	r := b.run("vm", "create", "--name", "none", "--image", "zeros", "--disk", "16MiB", "--memory", "256MiB")
	if r.code == 0 || !strings.Contains(r.err, "banger-guest: cannot boot") || !strings.Contains(r.err, "ext4") {
		t.Errorf("exit code %d\n%s", r.code, r.err)
	}
	if left := b.ok("vm", "list", "-q"); left != "" {
		t.Errorf("left behind: %s", left)
	}
}
