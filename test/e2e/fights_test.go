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
// the network up as it thinks right, as Alpine's does: by ifup, and by a DHCP
// client of its own, which takes the address away.
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
			"rc":                 "#!/bin/sh\nexport PATH=/bin:/sbin\nifup -a >/tmp/ifup.log 2>&1\nudhcpc -i eth0 -n -q -t 2 -T 1 >/tmp/udhcpc.log 2>&1\ntouch /tmp/rc-is-done\n",
			"network/interfaces": dhcp,
		} {
			must(t, os.WriteFile(filepath.Join(root, "etc", name), []byte(text), 0o755))
		}
		script := "#!/bin/sh\n[ \"$1\" = deconfig ] && ifconfig $interface 0.0.0.0 && ip -4 addr show dev $interface >/tmp/deconfigured\n"
		must(t, os.WriteFile(filepath.Join(root, "etc/udhcpc/default.script"), []byte(script), 0o755))
		command(t, "mke2fs", "-q", "-t", "ext4", "-E", "root_owner=0:0", "-d", root, file, "32M")
	})
	b.Set("BANGER_RUNTIME_DIR", dir)
	v := b.boot("tab", "--image", "inittab", "--disk", "64MiB")
	if got := b.in("tab", "until [ -e /tmp/rc-is-done ]; do sleep 1; done; cat /proc/1/comm"); got != "init" {
		t.Errorf("the first process is %q", got)
	}
	if got := b.in("tab", "cat /tmp/deconfigured"); strings.Contains(got, v.Addr.String()) {
		t.Errorf("udhcpc left the address alone, and this test shows nothing: %s", got)
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

// debianWith returns an installation with a bundle whose one image is Debian with
// these packages, and ifupdown told to run DHCP. To build it takes a minute or more.
func debianWith(t *testing.T, name, packages string) box {
	t.Helper()
	need(t)
	if os.Getenv("BANGER_TEST_LONG") == "" {
		t.Skip("builds an image out of Debian's packages: BANGER_TEST_LONG=1")
	}
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED: building an image here needs root")
	}
	b := fresh(t)
	dir := bundleWith(t, b.Dir, name, func(file string) {
		work := t.TempDir()
		must(t, os.Chmod(work, 0o755)) // apt's own user passes through
		root := filepath.Join(work, "root")
		sources, err := filepath.Glob("/etc/apt/sources.list*")
		must(t, err)
		more, err := filepath.Glob("/etc/apt/sources.list.d/*.[ls]*")
		must(t, err)
		args := []string{
			"--quiet", "--mode=root", "--format=directory", "--variant=minbase", "--dpkgopt=force-unsafe-io",
			"--include=" + packages, "bookworm", root,
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
	return b
}

// Debian with NetworkManager and ifupdown, which both mean to run DHCP on eth0.
func TestImageWithNetworkManager(t *testing.T) {
	b := debianWith(t, "manager", "systemd-sysv,dbus,udev,network-manager,ifupdown,isc-dhcp-client,iproute2,procps")
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

// Debian without systemd: sysvinit is the first process, and OpenRC runs the
// services, ifupdown's among them. A DHCP client is started by hand as well.
func TestImageWithOpenRC(t *testing.T) {
	b := debianWith(t, "openrc", "sysvinit-core,openrc,ifupdown,isc-dhcp-client,iproute2,procps")
	v := b.boot("rc", "--image", "openrc")
	// Its services have begun: before that poweroff would cut the boot short.
	up := func() string {
		return b.in("rc", "timeout 200 sh -c 'until [ \"$(rc-status -r)\" ] && pgrep -x init; do sleep 1; done' >/dev/null && cat /proc/1/comm && readlink -f /proc/1/exe")
	}
	if got := up(); got != "init\n/usr/sbin/init" && got != "init\n/sbin/init" {
		t.Errorf("the first process is %q", got)
	}
	// dhclient flushes the addresses when nobody answers, or sets what it is told.
	b.in("rc", "timeout 60 dhclient -1 -timeout 5 eth0; timeout 60 dhclient -r eth0; true")
	b.staysReachable("rc", v)
	how := func(ended string) banger.VM {
		b.run("vm", "exec", "-n", "rc", "--", ended)
		return b.until("rc", limit, func(now banger.VM) bool {
			return now.LastExit != nil && (ended == "poweroff" && now.State == banger.StateStopped || ended == "reboot" && now.Ready)
		})
	}
	if got := how("reboot"); got.LastExit.Cause != banger.ExitGuest || !got.LastExit.Reboot {
		t.Errorf("a reboot is told as %+v", got.LastExit)
	}
	if got := how("poweroff"); got.LastExit.Cause != banger.ExitGuest || got.LastExit.Reboot {
		t.Errorf("a poweroff is told as %+v", got.LastExit)
	}
	b.ok("vm", "start", "rc")
	up()
	b.ok("vm", "stop", "rc", "--timeout", limit.String()) // its scripts wait for all that does not end
	if v := b.show("rc"); v.LastExit == nil || v.LastExit.Cause != banger.ExitGuest || v.LastExit.Reboot {
		t.Errorf("its stop is told as %+v", v.LastExit)
	}
}
