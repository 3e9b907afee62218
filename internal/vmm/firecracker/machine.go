package firecracker

import (
	"os"
	"slices"
	"strconv"
	"strings"

	sdk "github.com/firecracker-microvm/firecracker-go-sdk"
	"github.com/firecracker-microvm/firecracker-go-sdk/client/models"

	"banger"
	"banger/internal/vmm"
)

type sdkConfig = sdk.Config

// configure is m in the SDK's words, or what of m Firecracker cannot do.
func (b *Backend) configure(m vmm.Machine, socket string) (sdkConfig, error) {
	kernel, err := b.kernel(m)
	if err != nil {
		return sdkConfig{}, err
	}
	cfg := sdkConfig{
		SocketPath: socket, VMID: marker(m.Launch),
		KernelImagePath: kernel, InitrdPath: m.Initrd, KernelArgs: cmdline(m),
		MachineCfg: models.MachineConfiguration{VcpuCount: sdk.Int64(int64(m.CPUs)), MemSizeMib: sdk.Int64(m.Memory >> 20), Smt: sdk.Bool(false)},
		// The SDK launches nothing here; should it ever, not as it does by default.
		Seccomp: sdk.SeccompConfig{Enabled: true}, ForwardSignals: []os.Signal{},
		// It would refuse a socket that is there: this one is, and answers.
		DisableValidation: true,
	}
	if b.known().vsock() {
		cfg.VsockDevices = vsockOf(socket)
	}
	for i, d := range m.Disks {
		if d.Format != banger.FormatRaw {
			return sdkConfig{}, banger.Errorf(banger.WrongState, "Firecracker cannot boot a disk of format %s", d.Format).
				WithRemedy("banger vm set %[1]s --backend qemu, or banger vm reset %[1]s (its disk is made anew)", m.Name)
		}
		cfg.Drives = append(cfg.Drives, models.Drive{
			DriveID: sdk.String("disk" + strconv.Itoa(i)), PathOnHost: sdk.String(d.Path),
			IsReadOnly: sdk.Bool(d.ReadOnly),
			// The guest program finds it: a root device would bring arguments of its own.
			IsRootDevice: sdk.Bool(false),
			// Unsafe, the default, tells the guest that there is no cache to flush.
			CacheType: sdk.String(models.DriveCacheTypeWriteback),
		})
	}
	switch {
	case m.Net.Tap != "":
		cfg.NetworkInterfaces = sdk.NetworkInterfaces{{StaticConfiguration: &sdk.StaticNetworkConfiguration{
			MacAddress: m.MAC, HostDevName: m.Net.Tap,
		}}}
	case m.Net != (banger.Endpoint{}):
		return sdkConfig{}, banger.Errorf(banger.WrongState, "Firecracker has no network of its own: it needs a tap").
			WithRemedy("banger vm set %[1]s --network routed, or banger vm set %[1]s --backend qemu", m.Name)
	}
	return cfg, nil
}

// known is the version that Probe has found.
func (b *Backend) known() release {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.version
}

// kernel is the file that this version boots.
func (b *Backend) kernel(m vmm.Machine) (string, error) {
	v := b.known()
	switch {
	case m.VMLinux != "":
		return m.VMLinux, nil
	case !v.before(bzImage):
		return m.Kernel, nil
	}
	return "", banger.Errorf(banger.WrongState, "the image has no kernel that Firecracker %s boots (an ELF vmlinux)", v).
		WithRemedy("build the bundle anew and make the VM from that: banger bundle build")
}

// cmdline is all of the kernel's arguments, in order. reboot=k: Firecracker ends
// with a reset through the keyboard controller, and with nothing else that a
// guest can do; the guest program knows it by that. The i8042's other channels
// are not there, and looking for them takes time.
func cmdline(m vmm.Machine) string {
	return strings.Join(append(slices.Clone(m.Cmdline), "console=ttyS0", "reboot=k", "i8042.noaux", "i8042.nomux", "i8042.dumbkbd"), " ")
}
