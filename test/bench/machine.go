package main

import (
	"context"
	"os"
	"os/exec"
	"runtime"
	"strings"
)

// A machine is what the times depend on.
type machine struct {
	Cores       int    `json:"cores"`
	CPU         string `json:"cpu"`
	Load        string `json:"load"` // of the last 1, 5 and 15 minutes, as the measuring began
	Kernel      string `json:"kernel"`
	Accelerator string `json:"accelerator,omitempty"`
	QEMU        string `json:"qemu,omitempty"`
	Lab         string `json:"lab,omitempty"` // the kernel of the emulated host in which it was measured
	Firecracker string `json:"firecracker,omitempty"`
	GuestKernel string `json:"guest_kernel"`
	Banger      string `json:"banger"`
}

func host() machine {
	load := strings.Fields(read("/proc/loadavg"))
	return machine{
		Cores: runtime.NumCPU(), CPU: processor(), Load: strings.Join(load[:min(3, len(load))], " "),
		Kernel: read("/proc/sys/kernel/osrelease"),
	}
}

// describe adds what the installation and its VMs are.
func (in *installation) describe(ctx context.Context, to *machine, m *model) {
	version, _ := in.output(ctx, "version")
	qemu, _ := exec.CommandContext(ctx, m.argv[0], "--version").Output()
	to.Accelerator, to.QEMU, to.GuestKernel, to.Banger = m.accelerator, firstLine(qemu), firstLine(m.release), firstLine(version)
}

func processor() string {
	for line := range strings.Lines(read("/proc/cpuinfo")) {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// read returns a file's text, or "": what it says is only for information.
func read(file string) string {
	b, _ := os.ReadFile(file)
	return strings.TrimSpace(string(b))
}

func firstLine(b []byte) string {
	line, _, _ := strings.Cut(string(b), "\n")
	return strings.TrimSpace(line)
}
