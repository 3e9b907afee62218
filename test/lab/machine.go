package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/crypto/ssh"
)

const (
	bootLimit = 5 * time.Minute // 12 s alone
	memory    = 4096            // MiB
	slots     = 4               // for disks of directories
)

// idle are modules that udev would load for a workstation's hardware: a third of a boot.
var idle = []string{"pcspkr", "lpc_ich", "iTCO_wdt", "cfg80211", "evdev", "joydev", "psmouse", "drm", "bochs", "parport", "parport_pc", "floppy"}

// A machine is an emulated host that runs. It has no network but the way in. It ends
// with this process, however that ends.
type machine struct {
	dir   string // of this run: its serial log, its disks
	image image
	port  int // on 127.0.0.1, leads to its sshd

	qemu  *os.Process
	ended chan struct{} // closed when QEMU has ended
	err   error         // QEMU's end, once ended
	used  time.Duration // CPU time, once ended
	svm   atomic.Bool   // its kernel named __svm_vcpu_run
	dead  chan struct{} // closed when its kernel died
	why   error         // of what it died, once dead
	once  sync.Once     // guards why
}

func (m *machine) file(name string) string { return filepath.Join(m.dir, name) }

// hardware is what QEMU is told of every machine. A saved machine needs the very same.
func (i image) hardware() []string {
	accel := []string{"-accel", "tcg,thread=multi,tb-size=1024", "-cpu", "max,+svm"}
	// The emulated TSCs are one clock, which the kernel would not believe, and each look at
	// another one is a way out of the machine, and of all that runs in it.
	clock := " tsc=reliable"
	if nested() {
		accel = []string{"-accel", "kvm", "-cpu", "host"}
		clock = ""
	}
	args := append(accel,
		"-M", "q35,sata=off,smbus=off,usb=off,vmport=off", "-smp", "2", "-m", fmt.Sprint(memory),
		"-kernel", i.file("vmlinuz"), "-initrd", i.file("initrd.img"),
		"-append", "root=/dev/vda rw console=ttyS0 net.ifnames=0 quiet loglevel=4 systemd.show_status=0 panic=0 oops=panic module_blacklist="+strings.Join(idle, ",")+clock,
		"-serial", "stdio", "-device", "virtio-rng-pci", "-device", "virtio-blk-pci,drive=root", "-device", "virtio-net-pci,netdev=net,romfile=")
	for n := range slots {
		args = append(args, "-device", fmt.Sprintf("pcie-root-port,id=slot%d,chassis=%[1]d", n))
	}
	return args
}

// launch starts a machine on a disk, which it may change, with more arguments of QEMU's.
func (i image) launch(drive string, more ...string) (*machine, error) {
	dir, err := os.MkdirTemp(i.work, "m")
	if err != nil {
		return nil, err
	}
	m := &machine{dir: dir, image: i, ended: make(chan struct{}), dead: make(chan struct{})}
	if m.port, err = freePort(); err == nil {
		args := append([]string{"bin/qemu-system-x86_64", "-L", i.file("tools/usr/share/qemu"), "-nodefaults", "-no-user-config", "-display", "none"}, i.hardware()...)
		args = append(args, "-drive", "if=none,id=root,cache=unsafe,discard=unmap,"+drive,
			"-netdev", fmt.Sprintf("user,id=net,restrict=on,hostfwd=tcp:127.0.0.1:%d-:22", m.port),
			"-qmp", "unix:"+m.file("qmp")+",server=on,wait=off")
		err = m.start(append(args, more...))
	}
	if err != nil {
		os.RemoveAll(dir)
		return nil, err
	}
	return m, nil
}

// start starts QEMU from a thread that stays: the kernel ends a child whose
// parent's thread does.
func (m *machine) start(args []string) error {
	cmd := exec.Command(m.image.file("tools/run"), args...)
	cmd.Env = append(os.Environ(), "TMPDIR="+m.dir) // of snapshots, which are unlinked
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	log, err := os.Create(m.file("serial.log"))
	if err != nil {
		return err
	}
	cmd.Stderr = log
	console, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	started := make(chan error)
	go func() {
		runtime.LockOSThread()
		defer log.Close()
		err := cmd.Start()
		started <- err
		if err != nil {
			return
		}
		m.listen(console, log)
		m.err = cmd.Wait()
		m.used = cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
		close(m.ended)
	}()
	if err := <-started; err != nil {
		return fmt.Errorf("start QEMU: %w", err)
	}
	m.qemu = cmd.Process
	return nil
}

// listen keeps the serial console, and looks for the kernel's death in it.
func (m *machine) listen(console io.Reader, log io.Writer) {
	r := bufio.NewReader(io.TeeReader(console, log))
	for {
		line, err := r.ReadString('\n')
		if strings.Contains(line, "__svm_vcpu_run") {
			m.svm.Store(true)
		}
		if strings.Contains(line, "end Kernel panic") {
			m.die(errors.New("the kernel of the lab's machine died"))
		}
		if err != nil {
			return
		}
	}
}

// connect waits until a user can log in, and does.
func (m *machine) connect(ctx context.Context, user string) (*ssh.Client, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, bootLimit, fmt.Errorf("not after %s", bootLimit))
	defer cancel()
	config, err := m.image.clientConfig(user)
	if err != nil {
		return nil, err
	}
	for {
		client, err := dial(ctx, fmt.Sprintf("127.0.0.1:%d", m.port), config)
		if err == nil {
			return client, nil
		}
		select {
		case <-m.ended:
			return nil, fmt.Errorf("the lab's machine ended: %v\n%s", m.err, m.console())
		case <-m.dead:
			return nil, m.died()
		case <-ctx.Done():
			return nil, fmt.Errorf("log in: %w (%v)\n%s", context.Cause(ctx), err, m.console())
		case <-time.After(200 * time.Millisecond): // QEMU's port accepts before there is a server
		}
	}
}

// died is the error for a kernel that died.
func (m *machine) died() error {
	if m.svm.Load() {
		return errInterrupted
	}
	if errors.Is(m.why, errEmulator) {
		return m.why
	}
	return fmt.Errorf("%w\n%s", m.why, m.console())
}

// console returns what the machine wrote to its serial console.
func (m *machine) console() string {
	b, err := os.ReadFile(m.file("serial.log"))
	if err != nil {
		return err.Error()
	}
	return string(b)
}

// end ends the machine and removes all that it had.
func (m *machine) end() error {
	if err := m.qemu.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("end QEMU: %w", err)
	}
	<-m.ended
	return os.RemoveAll(m.dir)
}

// nested reports whether this machine's KVM runs machines that have KVM
// themselves: that /dev/kvm can be opened is no proof of it.
func nested() bool {
	f, err := os.OpenFile("/dev/kvm", os.O_RDWR, 0)
	if err != nil {
		return false
	}
	f.Close()
	for _, module := range []string{"kvm_intel", "kvm_amd"} {
		b, err := os.ReadFile("/sys/module/" + module + "/parameters/nested")
		if err == nil && len(b) > 0 && (b[0] == 'Y' || b[0] == '1') {
			return true
		}
	}
	return false
}

// freePort returns a TCP port of 127.0.0.1 that nobody listens at.
func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}
