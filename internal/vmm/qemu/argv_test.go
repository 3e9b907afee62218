package qemu_test

import (
	"net/netip"
	"os"
	"strings"
	"testing"

	"banger"
	"banger/internal/vmm"
	"banger/internal/vmm/qemu"
)

func exampleMachine() vmm.Machine {
	return vmm.Machine{
		VM: "0a1b2c3d", Name: "web", Launch: "00112233445566aa", Dir: "/s/vms/0a1b2c3d",
		Kernel: "/s/blobs/k", Initrd: "/r/i", Cmdline: []string{"quiet", "panic=1"}, CPUs: 2, Memory: 1 << 30,
		Disks: []vmm.Disk{
			{Path: "/s/a,b.qcow2", Format: banger.FormatQCOW2},
			{Path: "/s/blobs/m", Format: banger.FormatRaw, ReadOnly: true},
		},
		Net: banger.Endpoint{
			User: &banger.UserNet{Subnet: netip.MustParsePrefix("172.30.0.0/20"), Gateway: netip.MustParseAddr("172.30.0.1"), Resolver: netip.MustParseAddr("172.30.0.2")},
			SSH:  netip.MustParseAddrPort("127.0.0.1:22022"),
		},
		Addr: "172.30.0.3", GuestPort: 5122, MAC: "52:54:00:00:00:01", SerialLog: "/s/serial.log", VMMLog: "/s/vmm.log",
	}
}

func TestArgv(t *testing.T) {
	got := lines(t, exampleMachine(), "tcg")
	want := `-name banger-00112233445566aa
-nodefaults
-no-user-config
-display none
-no-reboot
-no-shutdown
-sandbox on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny
-machine microvm,acpi=on,rtc=on,pcie=off
-smp 2
-m 1073741824B
-qmp unix:/s/vms/a,,b/qmp.sock,server=on,wait=off
-chardev socket,id=serial,server=on,wait=off,path=/s/vms/a,,b/tty.sock,logappend=on,logfile=/s/serial.log
-serial chardev:serial
-object rng-random,id=rng,filename=/dev/urandom
-device virtio-rng-device,rng=rng
-device pvpanic
-accel tcg,thread=multi,tb-size=256
-cpu max,-erms,-fsrm
-drive if=none,id=disk0,format=qcow2,discard=unmap,file=/s/a,,b.qcow2
-device virtio-blk-device,drive=disk0
-drive if=none,id=disk1,format=raw,discard=unmap,file=/s/blobs/m,read-only=on
-device virtio-blk-device,drive=disk1
-netdev user,id=net,ipv6=off,net=172.30.0.0/20,host=172.30.0.1,dns=172.30.0.2,hostfwd=tcp:127.0.0.1:22022-172.30.0.3:5122
-device virtio-net-device,netdev=net,mac=52:54:00:00:00:01
-kernel /s/blobs/k
-initrd /r/i
-append quiet panic=1 console=ttyS0 reboot=t tsc_early_khz=2400000 tsc=reliable
`
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestArgvVariants(t *testing.T) {
	m := exampleMachine()
	kvm := lines(t, m, "kvm")
	if !strings.Contains(kvm, "-accel kvm\n-cpu host\n") || strings.Contains(kvm, "tsc_early_khz") {
		t.Errorf("with KVM:\n%s", kvm)
	}
	m.Net = banger.Endpoint{}
	if got := lines(t, m, "tcg"); strings.Contains(got, "net") {
		t.Errorf("without a network:\n%s", got)
	}
	m.Net = banger.Endpoint{Tap: "b-1", SSH: netip.MustParseAddrPort("172.30.0.3:5122")}
	if got := lines(t, m, "tcg"); !strings.Contains(got, "-netdev tap,id=net,fd=3\n") || strings.Contains(got, "hostfwd") {
		t.Errorf("with a tap:\n%s", got)
	}
	m.Net = banger.Endpoint{Socket: "/s/a,b/net.sock", SSH: netip.MustParseAddrPort("127.0.0.1:22022")}
	if got := lines(t, m, "tcg"); !strings.Contains(got, "-netdev stream,id=net,server=off,addr.type=unix,addr.path=/s/a,,b/net.sock\n-device virtio-net-device,netdev=net,mac=52:54:00:00:00:01\n") || strings.Contains(got, "hostfwd") {
		t.Errorf("with a socket:\n%s", got)
	}
	m = exampleMachine()
	m.Net.User.Isolated = true
	m.Net.User.Publish = []banger.Publish{
		{Host: netip.MustParseAddrPort("127.0.0.1:8080"), Guest: 80, Proto: banger.TCP},
		{Host: netip.MustParseAddrPort("0.0.0.0:5353"), Guest: 53, Proto: banger.UDP},
	}
	want := ",restrict=on,hostfwd=tcp:127.0.0.1:22022-172.30.0.3:5122,hostfwd=tcp:127.0.0.1:8080-172.30.0.3:80,hostfwd=udp:0.0.0.0:5353-172.30.0.3:53\n"
	if got := lines(t, m, "tcg"); !strings.Contains(got, want) {
		t.Errorf("isolated, with ports:\n%s", got)
	}
	m.Net = banger.Endpoint{SSH: netip.MustParseAddrPort("127.0.0.1:1")}
	if _, err := qemu.Argv(m, "/s/q", "tcg"); err == nil {
		t.Error("an endpoint without a network was taken")
	}
}

func TestStreams(t *testing.T) {
	for version, want := range map[string]bool{
		"QEMU emulator version 7.2.11 (Debian 1:7.2+dfsg-7+deb12u6)": true,
		"QEMU emulator version 10.0.2":                               true, "QEMU emulator version 7.2": true, "QEMU emulator version 8.0.0": true,
		"QEMU emulator version 7.1.0": false, "QEMU emulator version 6.2.0 (Debian 1:6.2+dfsg-2ubuntu6)": false,
		"": false, "QEMU": false, "QEMU emulator version x.y": false, "QEMU emulator version 9": false,
	} {
		if got := qemu.Streams(version); got != want {
			t.Errorf("%q: %v", version, got)
		}
	}
}

func FuzzStreams(f *testing.F) {
	f.Add("QEMU emulator version 7.2.11 (Debian 1:7.2+dfsg-7+deb12u6)")
	f.Fuzz(func(t *testing.T, version string) {
		if qemu.Streams(version) && !strings.HasPrefix(version, "QEMU") {
			t.Errorf("%q", version)
		}
	})
}

// lines puts each option and its value on a line.
func lines(t *testing.T, m vmm.Machine, accel string) string {
	t.Helper()
	argv, err := qemu.Argv(m, "/s/vms/a,b/qmp.sock", accel)
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for i, a := range argv {
		switch {
		case i == 0:
		case strings.HasPrefix(a, "-"):
			b.WriteByte('\n')
		default:
			b.WriteByte(' ')
		}
		b.WriteString(a)
	}
	return b.String() + "\n"
}

func FuzzSocketIn(f *testing.F) {
	f.Add("/s/a,b/qmp.sock")
	f.Add(",server=on,wait=off")
	f.Fuzz(func(t *testing.T, path string) {
		argv, err := qemu.Argv(exampleMachine(), path, "tcg")
		if err != nil {
			t.Fatal(err)
		}
		if got := qemu.SocketIn(argv); got != path {
			t.Errorf("%q came back as %q", path, got)
		}
	})
}

func TestTSC(t *testing.T) {
	b, err := os.ReadFile("/proc/cpuinfo")
	if err != nil || !strings.Contains(string(b), " constant_tsc ") {
		t.Skip("this CPU's TSC has no constant rate")
	}
	a, c := qemu.TSCKHz(), qemu.TSCKHz()
	if a < 100_000 || a > 100_000_000 || a-c > a/1000 || c-a > a/1000 {
		t.Errorf("measured %d and %d kHz", a, c)
	}
	t.Log(a, c)
}
