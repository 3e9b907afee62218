package main

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// A model is how banger started a VM, for starting others like it.
type model struct {
	argv        []string // QEMU's
	dir         string   // the VM's, in argv
	base        string   // under the root disk
	diskSize    int64
	workSize    int64  // of the work disk
	guest       string // banger-guest
	accelerator string
	release     []byte // the guest's kernel

	gateway, resolver, addr string // as the guest has them
	mac                     string
}

var (
	netdev  = regexp.MustCompile(`^user,.*host=([0-9.]+),dns=([0-9.]+),hostfwd=tcp:127\.0\.0\.1:\d+-([0-9.]+):5122$`)
	card    = regexp.MustCompile(`^virtio-net-device,.*mac=([0-9a-f:]+)$`)
	forward = regexp.MustCompile(`127\.0\.0\.1:\d+-`)
)

func newModel(argv []string, dir string) (*model, error) {
	m := &model{argv: argv, dir: dir}
	for _, a := range argv {
		if f := netdev.FindStringSubmatch(a); f != nil {
			m.gateway, m.resolver, m.addr = f[1], f[2], f[3]
		}
		if f := card.FindStringSubmatch(a); f != nil {
			m.mac = f[1]
		}
	}
	if m.addr == "" || m.mac == "" || m.after("-initrd") == "" {
		return nil, fmt.Errorf("QEMU's command line is not as expected: %q", argv)
	}
	return m, nil
}

func (m *model) after(option string) string { return after(m.argv, option) }

func after(argv []string, option string) string {
	if i := slices.Index(argv, option); i >= 0 && i+1 < len(argv) {
		return argv[i+1]
	}
	return ""
}

// set replaces an option's value.
func set(argv []string, option, value string) {
	argv[slices.Index(argv, option)+1] = value
}

// like is the command line of a VM like the model's, with its files in dir:
// port leads to the guest program, sshd to port 22, up to one that nobody serves.
func (m *model) like(dir string, port, sshd, up int) []string {
	argv := slices.Clone(m.argv)
	for i := range argv {
		argv[i] = strings.ReplaceAll(argv[i], m.dir+"/", dir+"/")
	}
	set(argv, "-name", "bench")
	set(argv, "-initrd", dir+"/initrd")
	set(argv, "-netdev", forward.ReplaceAllString(after(argv, "-netdev"), fmt.Sprintf("127.0.0.1:%d-", port))+
		fmt.Sprintf(",hostfwd=tcp:127.0.0.1:%d-%s:22,hostfwd=tcp:127.0.0.1:%d-%[2]s:1", sshd, m.addr, up))
	return argv
}

// likeStock is the same command line for an image that is not banger's: its own
// kernel and initrd, its one disk, QEMU's usual network.
func (m *model) likeStock(dir, kernel string, port, up, cpus int) []string {
	argv := slices.DeleteFunc(m.like(dir, port, port, up), func(a string) bool {
		return strings.Contains(a, "id=disk1,") || strings.HasSuffix(a, "drive=disk1") || strings.Contains(a, "id=disk2,") || strings.HasSuffix(a, "drive=disk2")
	})
	// Each value that went leaves its option, which now has another option behind it.
	for i := len(argv) - 2; i >= 0; i-- {
		if (argv[i] == "-drive" || argv[i] == "-device") && strings.HasPrefix(argv[i+1], "-") {
			argv = slices.Delete(argv, i, i+1)
		}
	}
	set(argv, "-smp", strconv.Itoa(cpus))
	set(argv, "-kernel", kernel)
	set(argv, "-netdev", fmt.Sprintf("user,id=net,ipv6=off,hostfwd=tcp:127.0.0.1:%d-10.0.2.15:22,hostfwd=tcp:127.0.0.1:%d-10.0.2.15:1", port, up))
	set(argv, "-append", "root=/dev/vda ro "+after(argv, "-append"))
	return argv
}
