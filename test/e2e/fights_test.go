package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"banger"
)

// dhcp is what an image's own configuration says of eth0: where it is heeded,
// the VM's address is gone within seconds, since nobody answers.
const dhcp = "auto lo\niface lo inet loopback\nauto eth0\niface eth0 inet dhcp\n"

// An image with another init than systemd's, which reads /etc/inittab and brings
// the network up as it thinks right, as Alpine's does.
func TestImageWithInittab(t *testing.T) {
	b := fresh(t)
	busybox, err := exec.LookPath("busybox")
	if err != nil {
		t.Fatalf("%v (apt install busybox-static)", err)
	}
	dir := bundleWith(t, b.Dir, "inittab", func(file string) {
		root := t.TempDir()
		for _, d := range []string{"bin", "sbin", "etc/network/if-pre-up.d", "etc/network/if-up.d", "etc/udhcpc", "root", "tmp", "var/run"} {
			must(t, os.MkdirAll(filepath.Join(root, d), 0o755))
		}
		command(t, "cp", "-L", busybox, filepath.Join(root, "bin", "busybox"))
		for _, name := range []string{"sh", "cat", "ip", "ifup", "ifconfig", "udhcpc", "run-parts", "sleep", "hostname", "poweroff", "touch", "ps", "grep"} {
			must(t, os.Symlink("busybox", filepath.Join(root, "bin", name)))
		}
		must(t, os.Symlink("../bin/busybox", filepath.Join(root, "sbin", "init")))
		for name, text := range map[string]string{
			"passwd":             "root::0:0::/root:/bin/sh\n",
			"inittab":            "::sysinit:/etc/rc\n::respawn:/bin/sleep 3600\n::shutdown:/bin/true\n",
			"rc":                 "#!/bin/sh\nexport PATH=/bin:/sbin\nifup -a >/tmp/ifup.log 2>&1\ntouch /tmp/rc-is-done\n",
			"network/interfaces": dhcp,
		} {
			must(t, os.WriteFile(filepath.Join(root, "etc", name), []byte(text), 0o755))
		}
		script := "#!/bin/sh\n[ \"$1\" = deconfig ] && ifconfig $interface 0.0.0.0\n"
		must(t, os.WriteFile(filepath.Join(root, "etc/udhcpc/default.script"), []byte(script), 0o755))
		command(t, "mke2fs", "-q", "-t", "ext4", "-E", "root_owner=0:0", "-d", root, file, "32M")
	})
	b.Set("BANGER_RUNTIME_DIR", dir)
	v := b.boot("tab", "--image", "inittab", "--disk", "64MiB")
	if got := b.in("tab", "until [ -e /tmp/rc-is-done ]; do sleep 1; done; cat /proc/1/comm"); got != "init" {
		t.Errorf("the first process is %q", got)
	}
	b.staysReachable("tab", v)
	b.ok("vm", "stop", "tab")
	if v := b.show("tab"); v.LastExit == nil || v.LastExit.Cause != banger.ExitGuest {
		t.Errorf("its stop is told as %+v", v.LastExit)
	}
}

// staysReachable waits a minute of the guest's own time, and connects anew.
func (b box) staysReachable(vm string, v banger.VM) {
	b.t.Helper()
	got := b.in(vm, "sleep 60; ip -4 addr show dev eth0; ip route")
	if !strings.Contains(got, "inet "+v.Addr.String()+"/32") || !strings.Contains(got, "default via") {
		b.t.Errorf("after a minute: %s", got)
	}
	if out := b.ok("vm", "ssh", vm, "--", "hostname"); out != vm+"\n" {
		b.t.Errorf("a new connection: %q", out)
	}
}

// Debian with NetworkManager and ifupdown, which both mean to run DHCP on eth0.
// It is built from Debian's packages, which takes a minute or more.
func TestImageWithNetworkManager(t *testing.T) {
	need(t)
	if os.Getenv("BANGER_TEST_LONG") == "" {
		t.Skip("builds an image out of Debian's packages: BANGER_TEST_LONG=1")
	}
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED: building an image here needs root")
	}
	b := fresh(t)
	dir := bundleWith(t, b.Dir, "manager", func(file string) {
		work := t.TempDir()
		must(t, os.Chmod(work, 0o755)) // apt's own user passes through
		root := filepath.Join(work, "root")
		sources, err := filepath.Glob("/etc/apt/sources.list*")
		must(t, err)
		more, err := filepath.Glob("/etc/apt/sources.list.d/*.[ls]*")
		must(t, err)
		args := []string{
			"--quiet", "--mode=root", "--format=directory", "--variant=minbase", "--dpkgopt=force-unsafe-io",
			"--include=systemd-sysv,dbus,udev,network-manager,ifupdown,isc-dhcp-client,iproute2,procps", "bookworm", root,
		}
		for _, s := range append(sources, more...) {
			if fi, err := os.Stat(s); err == nil && fi.Mode().IsRegular() {
				args = append(args, s)
			}
		}
		command(t, "mmdebstrap", args...)
		must(t, os.WriteFile(filepath.Join(root, "etc/network/interfaces"), []byte(dhcp), 0o644))
		command(t, "mke2fs", "-q", "-t", "ext4", "-d", root, file, "1G")
	})
	b.Set("BANGER_RUNTIME_DIR", dir)
	v := b.boot("managed", "--image", "manager")
	b.booted("managed")
	for _, unit := range []string{"NetworkManager", "networking"} {
		if got := b.in("managed", "systemctl is-active "+unit); got != "active" {
			t.Errorf("%s is %s: the test's image does not fight", unit, got)
		}
	}
	if got := b.in("managed", "nmcli -t -f DEVICE,STATE device"); !strings.Contains(got, "eth0:unmanaged") {
		t.Errorf("NetworkManager: %s", got)
	}
	b.staysReachable("managed", v)
	// Left to itself it does take the address away, often before it can be asked.
	r := b.run("vm", "exec", "-n", "managed", "--", "sh", "-c",
		"rm /run/NetworkManager/conf.d/00-banger.conf; systemctl reload NetworkManager; sleep 5; nmcli -t -f DEVICE,STATE device")
	if r.code == 0 && strings.Contains(r.out, "eth0:unmanaged") {
		t.Errorf("without what banger tells it, NetworkManager leaves eth0 alone as well, and this test shows nothing: %s", r.out)
	}
}
