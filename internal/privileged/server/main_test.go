package server_test

import (
	"bufio"
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"banger"
	"banger/internal/network"
	"banger/internal/privileged"
	"banger/internal/privileged/client"
	"banger/internal/privileged/server"
)

// quick keeps a program with the race detector from sleeping a second at its end.
const quick = "GORACE=atexit_sleep_ms=0"

// This binary is several programs: banger-root, a user's bangerd as far as it
// asks banger-root, and another user who means ill.
func TestMain(m *testing.M) {
	switch os.Args[0] {
	case "banger-root":
		os.Exit(server.Main(os.Stdout, os.Stderr))
	case "user":
		beUser(os.Args[1])
	case "villain":
		beVillain(os.Args[1:])
	default:
		os.Exit(m.Run())
	}
}

// beUser does one command a line, and answers "ok" or an error's code and text.
func beUser(uid string) {
	n, _ := strconv.Atoi(uid)
	ctx, stop := context.WithTimeout(context.Background(), time.Minute)
	defer stop()
	c, err := client.Dial(ctx, n)
	say(err)
	if err != nil {
		return
	}
	defer c.Close()
	var held []interface {
		io.Closer
		syscall.Conn
	}
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		verb, rest, _ := strings.Cut(in.Text(), " ")
		switch verb {
		case "probe":
			say(c.Router().Probe(ctx))
		case "set":
			var cfg network.Config
			if err := json.Unmarshal([]byte(rest), &cfg); err != nil {
				say(err)
				continue
			}
			for i := range cfg.Ports { // the latest that it listens on
				cfg.Ports[i].Socket = held[len(held)-1]
			}
			say(c.Router().Set(ctx, cfg))
		case "listen":
			lc := net.ListenConfig{}
			lc.SetMultipathTCP(false)
			l, err := lc.Listen(ctx, "tcp4", rest)
			if say(err); err == nil {
				held = append(held, l.(*net.TCPListener))
			}
		case "bind":
			l, err := net.ListenPacket("udp4", rest)
			if say(err); err == nil {
				held = append(held, l.(*net.UDPConn))
			}
		case "close": // the earliest of them
			say(held[0].Close())
			held = held[1:]
		case "allow":
			say(c.AllowKVM(ctx))
		case "revoke":
			say(c.RevokeKVM(ctx))
		case "resolve":
			at, _ := netip.ParseAddrPort(rest) // or nobody
			say(c.Resolve(ctx, tag, at))
		case "exit":
			say(c.Exit(ctx))
		case "done":
			<-c.Done()
			say(nil)
		case "open": // /dev/kvm, as a VMM would
			fd, err := unix.Open(rest, unix.O_RDWR, 0)
			unix.Close(fd)
			say(err)
		}
	}
}

func say(err error) {
	if err == nil {
		fmt.Println("ok")
		return
	}
	fmt.Println(banger.CodeOf(err), strings.ReplaceAll(err.Error(), "\n", " "))
}

// beVillain does one thing that should fail. Descriptor 3 is /dev/net/tun.
func beVillain(args []string) {
	switch args[0] {
	case "connect": // and ask by hand: path, message in hex, descriptors beside it
		c, err := net.Dial(privileged.Network, args[1])
		if err != nil {
			say(err)
			return
		}
		u := c.(*net.UnixConn)
		msg, _ := hex.DecodeString(args[2])
		n, _ := strconv.Atoi(args[3])
		var oob []byte
		if n > 0 {
			oob = unix.UnixRights(make([]int, n)...) // standard input, n times
		}
		if _, _, err = u.WriteMsgUnix(msg, oob, nil); err == nil {
			b := make([]byte, 10000)
			var got int
			if got, err = u.Read(b); err == nil {
				r, perr := client.ParseResponse(b[:got])
				if err = perr; err == nil && r.Error != nil {
					err = r.Error
				}
			}
		}
		say(err)
	case "attach": // to a tap
		r, _ := unix.NewIfreq(args[1])
		r.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI)
		say(unix.IoctlIfreq(3, unix.TUNSETIFF, r))
	case "delete": // a link
		l, err := netlink.LinkByName(args[1])
		if err == nil {
			err = netlink.LinkDel(l)
		}
		say(err)
	case "write":
		say(os.WriteFile(args[1], []byte("0"), 0o600))
	case "remove":
		say(os.Remove(args[1]))
	case "rename":
		say(os.Rename(args[1], args[1]+"2"))
	case "mkdir":
		say(os.Mkdir(args[1], 0o700))
	case "read":
		_, err := os.ReadFile(args[1])
		say(err)
	case "list":
		_, err := os.ReadDir(args[1])
		say(err)
	case "lock":
		fd, err := unix.Open(args[1], unix.O_RDONLY, 0)
		if err == nil {
			err = unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB)
		}
		say(err)
	case "listen": // and answer whoever comes that all is well
		l, err := net.Listen(privileged.Network, args[1])
		say(err)
		if err != nil {
			return
		}
		_, _ = io.Copy(io.Discard, os.Stdin) // until the test ends it
		l.Close()
	}
}

// command is this binary as one of its programs, in the namespaces of the
// calling thread.
func command(t *testing.T, uid uint32, argv ...string) *exec.Cmd {
	t.Helper()
	tun, err := os.OpenFile("/dev/net/tun", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tun.Close() })
	c := exec.Command("/proc/self/exe")
	c.Args, c.Env, c.Dir, c.ExtraFiles = argv, []string{quick}, "/", []*os.File{tun}
	c.SysProcAttr = &unix.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}, Pdeathsig: unix.SIGKILL}
	return c
}

// villain returns what came of one attempt of uid's.
func villain(t *testing.T, uid uint32, args ...string) string {
	t.Helper()
	out, err := command(t, uid, append([]string{"villain"}, args...)...).Output()
	if err != nil {
		t.Fatal(args, err)
	}
	return strings.TrimSpace(string(out))
}

// A bangerd is a user's connection to banger-root.
type bangerd struct {
	t   *testing.T
	in  io.WriteCloser
	out *bufio.Scanner
	cmd *exec.Cmd
}

func connect(t *testing.T, uid uint32) (bangerd, string) {
	t.Helper()
	c := command(t, uid, "user", fmt.Sprint(uid))
	in, err := c.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	b := bangerd{t, in, bufio.NewScanner(out), c}
	t.Cleanup(b.close)
	return b, b.line()
}

func (b bangerd) line() string {
	if !b.out.Scan() {
		return "gone"
	}
	return b.out.Text()
}

func (b bangerd) ask(line string) string {
	b.t.Helper()
	if _, err := fmt.Fprintln(b.in, line); err != nil {
		return "gone"
	}
	return b.line()
}

func (b bangerd) set(c network.Config) string {
	b.t.Helper()
	j, err := json.Marshal(c)
	if err != nil {
		b.t.Fatal(err)
	}
	return b.ask("set " + string(j))
}

func (b bangerd) close() {
	b.in.Close()
	_ = b.cmd.Wait()
}
