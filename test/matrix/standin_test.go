package matrix

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/u-root/u-root/pkg/cpio"
	"golang.org/x/sys/unix"

	"banger/internal/guestapi"
	"banger/internal/inguest/sshd"
)

// vmmTool is the program that the stand-in is taken for.
const vmmTool = "qemu-system-x86_64"

// standIn is a VMM and its guest without a machine: the test binary under
// QEMU's name. It reads the joined initramfs, speaks QMP on its control socket,
// and serves the real guest program's SSH server on the forwarded port, or where
// leadToStandIn leads. To bangerd it is a VM that boots in no time. SIGUSR1 has
// its guest power off, SIGUSR2 reboot.
func standIn(argv []string) int {
	if slices.Contains(argv, "--version") {
		fmt.Println("QEMU emulator version 0 (a stand-in)")
		return 0
	}
	if err := pretend(argv); err != nil {
		fmt.Fprintln(os.Stderr, "stand-in:", err)
		return 1
	}
	return 0
}

func pretend(argv []string) error {
	id, err := identityIn(after(argv, "-initrd"))
	if err != nil {
		return err
	}
	m := &machine{id: id, status: "running", clients: map[net.Conn]bool{}}
	_, m.serial, _ = strings.Cut(after(argv, "-chardev"), ",logfile=")
	_, console, _ := strings.Cut(after(argv, "-chardev"), ",path=")
	console, _, _ = strings.Cut(console, ",")
	// Nobody attaches to it; it lies in the VM's directory as a QEMU's does.
	if _, err := net.Listen("unix", console); err != nil {
		return err
	}
	server, err := sshd.New(sshd.Config{
		HostKey: id.HostKey, AuthorizedKeys: id.AuthorizedKeys, Machine: m, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		return err
	}
	ssh, err := listenAs(after(argv, "-netdev"))
	if err != nil {
		return err
	}
	go server.Serve(ssh)
	m.obey()
	socket := strings.TrimSuffix(strings.TrimPrefix(after(argv, "-qmp"), "unix:"), ",server=on,wait=off")
	control, err := net.Listen("unix", socket)
	if err != nil {
		return err
	}
	for {
		c, err := control.Accept()
		if err != nil {
			return err
		}
		if quit := m.converse(c); quit {
			return errors.Join(os.Remove(socket), os.Remove(console))
		}
	}
}

// listenAs listens where the guest program of a VM with this -netdev is reached.
// A tap is held open, as a machine does: the kernel says that it is one.
func listenAs(netdev string) (net.Listener, error) {
	if _, forward, ok := strings.Cut(netdev, "hostfwd=tcp:"); ok {
		at, _, _ := strings.Cut(forward, "-")
		return net.Listen("tcp", at)
	}
	_, fd, _ := strings.Cut(netdev, "tap,id=net,fd=")
	n, err := strconv.Atoi(fd)
	if err != nil {
		return nil, fmt.Errorf("-netdev %s: %w", netdev, err)
	}
	tap, err := unix.NewIfreq("")
	if err == nil {
		err = unix.IoctlIfreq(n, unix.TUNGETIFF, tap)
	}
	if err != nil {
		return nil, fmt.Errorf("descriptor %d is no tap: %w", n, err)
	}
	return net.Listen("tcp", netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), guestapi.Port).String())
}

// obey ends the guest when it is told to.
func (m *machine) obey() {
	told := make(chan os.Signal, 1)
	signal.Notify(told, unix.SIGUSR1, unix.SIGUSR2)
	go func() {
		how := "poweroff"
		if <-told == unix.SIGUSR2 {
			how = "reboot"
		}
		if err := m.Shutdown(how); err != nil {
			fmt.Fprintln(os.Stderr, "stand-in:", err)
		}
	}()
}

// identityIn reads the identity out of a joined initramfs: it comes first.
func identityIn(initrd string) (id guestapi.Identity, err error) {
	f, err := os.Open(initrd)
	if err != nil {
		return id, err
	}
	defer f.Close()
	for r := cpio.Newc.Reader(f); ; {
		rec, err := r.ReadRecord()
		if err != nil {
			return id, fmt.Errorf("find the identity: %w", err)
		}
		if rec.Name == guestapi.IdentityPath {
			return id, json.NewDecoder(io.NewSectionReader(rec, 0, int64(rec.FileSize))).Decode(&id)
		}
	}
}

// A machine is what the stand-in pretends to be; sshd.Machine is its inside.
type machine struct {
	id     guestapi.Identity
	serial string

	mu      sync.Mutex
	status  string // QEMU's RunState
	clients map[net.Conn]bool
}

func (m *machine) Status() guestapi.Status {
	return guestapi.Status{Version: guestapi.Version, Launch: m.id.Launch, Booted: true}
}

func (m *machine) WaitBooted(context.Context) guestapi.Status { return m.Status() }

// Shutdown ends the guest as banger-guest does: its last word on the console,
// then the machine. The VMM stays (-no-shutdown) until it is told to quit.
func (m *machine) Shutdown(how string) error {
	f, err := os.OpenFile(m.serial, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	fmt.Fprintf(f, "%s\r\n", guestapi.ExitMarker(m.id.Launch, how))
	reason := map[string]string{"poweroff": "guest-shutdown", "reboot": "guest-reset"}[how]
	m.mu.Lock()
	defer m.mu.Unlock()
	m.status = "shutdown"
	for c := range m.clients {
		fmt.Fprintf(c, "{\"event\": \"SHUTDOWN\", \"data\": {\"guest\": true, \"reason\": %q}}\r\n", reason)
	}
	return nil
}

// converse serves one client of the control socket, and reports whether it was
// told to quit.
func (m *machine) converse(c net.Conn) (quit bool) {
	defer c.Close()
	say := func(format string, a ...any) {
		m.mu.Lock()
		defer m.mu.Unlock()
		fmt.Fprintf(c, format+"\r\n", a...)
	}
	say(`{"QMP": {"version": {}, "capabilities": ["oob"]}}`)
	in := bufio.NewScanner(c)
	for in.Scan() {
		var cmd struct {
			Execute string          `json:"execute"`
			ID      json.RawMessage `json:"id"`
		}
		if err := json.Unmarshal(in.Bytes(), &cmd); err != nil {
			return false
		}
		switch cmd.Execute {
		case "qmp_capabilities":
			say(`{"return": {}, "id": %s}`, cmd.ID)
			m.mu.Lock()
			m.clients[c] = true
			m.mu.Unlock()
			defer func() {
				m.mu.Lock()
				delete(m.clients, c)
				m.mu.Unlock()
			}()
		case "query-status":
			m.mu.Lock()
			status := m.status
			m.mu.Unlock()
			say(`{"return": {"status": %q}, "id": %s}`, status, cmd.ID)
		case "quit":
			say(`{"return": {}, "id": %s}`, cmd.ID)
			return true
		default:
			say(`{"error": {"class": "CommandNotFound", "desc": "not here"}, "id": %s}`, cmd.ID)
		}
	}
	return false
}

func after(argv []string, option string) string {
	if i := slices.Index(argv, option); i >= 0 && i+1 < len(argv) {
		return argv[i+1]
	}
	return ""
}
