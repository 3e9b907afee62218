package qemu

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"banger"
	"banger/internal/vmm"
)

// marker is the element of QEMU's argv that tells one launch from all others.
func marker(launch string) string { return "banger-" + launch }

// argv is QEMU's command line for m; khz is the rate of the host's TSC. Facts
// about microvm, measured: without acpi=on Debian's kernel finds no virtio-mmio
// device and no power button; reboot=t ends a guest without a wait for a
// keyboard controller that is not there; the first -drive is vda.
func argv(m vmm.Machine, socket, accel string, khz int) ([]string, error) {
	a := []string{
		"-name", marker(m.Launch),
		"-nodefaults", "-no-user-config", "-display", "none",
		"-no-reboot", "-no-shutdown",
		"-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny",
		"-machine", "microvm,acpi=on,rtc=on,pcie=off",
		"-smp", strconv.Itoa(m.CPUs),
		"-m", strconv.FormatInt(m.Memory, 10) + "B",
		"-qmp", "unix:" + escape(socket) + ",server=on,wait=off",
		"-chardev", "socket,id=serial,server=on,wait=off,path=" + escape(consoleSocket(socket)) + ",logappend=on,logfile=" + escape(m.SerialLog),
		"-serial", "chardev:serial",
		"-object", "rng-random,id=rng,filename=/dev/urandom",
		"-device", "virtio-rng-device,rng=rng",
		// By it a guest's kernel says that it panicked: a reset would pass for a
		// reboot that somebody wanted.
		"-device", "pvpanic",
	}
	cmdline := append(slices.Clone(m.Cmdline), "console=ttyS0", "reboot=t")
	if accel == accelKVM {
		a = append(a, "-accel", accelKVM, "-cpu", "host")
	} else {
		// A guest that is told of fast string instructions copies and clears by
		// them, and QEMU's emulation of those is slower than that of plain moves.
		a = append(a, "-accel", "tcg,thread=multi,tb-size=256", "-cpu", "max,-erms,-fsrm")
		// A guest's kernel that cannot calibrate its TSC in time hangs for ever.
		// The emulated TSCs of several CPUs are one clock, but on a busy host the
		// kernel's test of that fails, and its next best clock loses seconds.
		cmdline = append(cmdline, "tsc_early_khz="+strconv.Itoa(khz), "tsc=reliable")
	}
	for i, d := range m.Disks {
		id := "disk" + strconv.Itoa(i)
		drive := fmt.Sprintf("if=none,id=%s,format=%s,discard=unmap,file=%s", id, d.Format, escape(d.Path))
		if d.ReadOnly {
			drive += ",read-only=on"
		}
		a = append(a, "-drive", drive, "-device", "virtio-blk-device,drive="+id)
	}
	net, err := netArgs(m)
	if err != nil {
		return nil, err
	}
	a = append(a, net...)
	return append(a, "-kernel", m.Kernel, "-initrd", m.Initrd, "-append", strings.Join(cmdline, " ")), nil
}

func netArgs(m vmm.Machine) ([]string, error) {
	device := []string{"-device", "virtio-net-device,netdev=net,mac=" + m.MAC}
	switch ep := m.Net; {
	case ep.User != nil:
		u := ep.User
		n := fmt.Sprintf("user,id=net,ipv6=off,net=%s,host=%s,dns=%s", u.Subnet, u.Gateway, u.Resolver)
		if u.Isolated {
			n += ",restrict=on" // what hostfwd leads in still comes, and is answered
		}
		if ep.SSH.IsValid() {
			n += fmt.Sprintf(",hostfwd=tcp:%s-%s:%d", ep.SSH, m.Addr, m.GuestPort)
		}
		for _, p := range u.Publish {
			n += fmt.Sprintf(",hostfwd=%s:%s-%s:%d", p.Proto, p.Host, m.Addr, p.Guest)
		}
		return append([]string{"-netdev", n}, device...), nil
	case ep.Socket != "":
		return append([]string{"-netdev", "stream,id=net,server=off,addr.type=unix,addr.path=" + escape(ep.Socket)}, device...), nil
	case ep.Tap != "":
		return append([]string{"-netdev", "tap,id=net,fd=" + strconv.Itoa(tapFD)}, device...), nil
	case ep == (banger.Endpoint{}):
		return nil, nil
	}
	return nil, banger.Errorf(banger.Internal, "qemu cannot use this endpoint: %+v", m.Net)
}

// streams reports whether a QEMU of this version has -netdev stream: since 7.2.
func streams(version string) bool {
	var major, minor int
	if n, err := fmt.Sscanf(version, "QEMU emulator version %d.%d", &major, &minor); n != 2 || err != nil {
		return false
	}
	return major > 7 || major == 7 && minor >= 2
}

// escape doubles the commas of a value in QEMU's option syntax.
func escape(v string) string { return strings.ReplaceAll(v, ",", ",,") }

// socketIn and acceleratorIn read back what argv wrote.
func socketIn(argv []string) string {
	v := strings.TrimPrefix(after(argv, "-qmp"), "unix:")
	v = strings.TrimSuffix(v, ",server=on,wait=off")
	return strings.ReplaceAll(v, ",,", ",")
}

func acceleratorIn(argv []string) string {
	v, _, _ := strings.Cut(after(argv, "-accel"), ",")
	return v
}

func after(argv []string, option string) string {
	if i := slices.Index(argv, option); i >= 0 && i+1 < len(argv) {
		return argv[i+1]
	}
	return ""
}

// isLaunch reports whether argv is that of a QEMU of this launch, and not of a
// grep for one.
func isLaunch(argv []string, launch string) bool {
	return argv[0] == tool && after(argv, "-name") == marker(launch) && socketIn(argv) != ""
}
