package e2e

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"banger"
)

func deadline() time.Time { return time.Now().Add(20 * time.Second) }

// needPasst skips the test where there is no passt.
func needPasst(t *testing.T) {
	t.Helper()
	need(t)
	if _, err := exec.LookPath("passt"); err != nil {
		t.Skip("passt is not installed: apt install passt")
	}
}

// What a guest reaches, in each set-up; docs/networking.md has it as a table.
type reach struct{ loopback, other, outside bool }

// measure asks from within a guest, by TCP and UDP, all at once: what does not
// answer takes its time.
func (b box) measure(vm, gateway string, ports [3]int) (tcp, udp reach) {
	b.t.Helper()
	const ask = `ask() { echo "$1 $(timeout 15 bash -c "exec 3<>/dev/$1/$2/$3 && { [ $1 = tcp ] || echo >&3; } && head -n1 <&3" 2>/dev/null)"; }
for proto in tcp udp; do ask $proto $1 $2 & ask $proto $3 $4 & ask $proto $5 $6 & done; wait`
	said := b.ok("vm", "exec", "-n", vm, "--", "bash", "-c", ask, "ask",
		gateway, strconv.Itoa(ports[0]), hostAddr, strconv.Itoa(ports[1]), outsideAddr, strconv.Itoa(ports[2]))
	if n := strings.Count(said, "\n"); n != 6 {
		b.t.Errorf("%s asked %d times: %q", vm, n, said)
	}
	of := func(proto string) reach {
		hears := func(word string) bool { return strings.Contains(said, proto+" "+word+"\n") }
		return reach{hears("loopback"), hears("other"), hears("outside")}
	}
	return of("tcp"), of("udp")
}

// answering is a server in a guest that echoes a line back with the VM's name,
// on the TCP and the UDP port 80.
const answering = `use IO::Socket::INET;
my $udp = IO::Socket::INET->new(LocalPort => 80, Proto => "udp") or die;
my $tcp = IO::Socket::INET->new(LocalPort => 80, Listen => 5, ReuseAddr => 1) or die;
my $name = shift;
if (fork) { exit }
open STDIN, "</dev/null"; open STDOUT, ">/dev/null"; open STDERR, ">/dev/null";
if (fork) { while (my $c = $tcp->accept) { my $l = <$c>; print $c "$name heard $l"; close $c } }
else { while ($udp->recv(my $l, 100)) { $udp->send("$name heard $l") } }
`

func (b box) answer(vm string) {
	b.t.Helper()
	if r := b.input(answering, "vm", "exec", vm, "--", "sh", "-c", "cat >/run/answer; setsid perl /run/answer "+vm); r.code != 0 {
		b.t.Fatalf("start a server in %s: %+v", vm, r)
	}
}

// answers checks that what is published leads to the guest.
func (b box) answers(vm string, port int, networks ...string) {
	b.t.Helper()
	for _, network := range networks {
		if said, err := b.space.ask(network, port); said != vm+" heard hello\n" {
			b.t.Errorf("%s: %s port %d says %q, %v", vm, network, port, said, err)
		}
	}
}

// What guests reach of the host and the world, whose names they ask of the host's
// resolver, and what of them the host, on each stack and isolated, with a daemon that is killed and configured anew in
// between: VMs keep the network that they have.
func TestReach(t *testing.T) {
	needPasst(t)
	host, outside := newHost(t)
	host.names(t)
	b := fresh(t)
	b.space = host
	b.Set("BANGER_NETWORK_USER", "auto")
	ports := [3]int{host.greet(t, "127.0.0.1", "loopback"), host.greet(t, hostAddr, "other"), outside.greet(t, outsideAddr, "outside")}
	var gateway string
	for _, c := range []struct {
		name  string
		stack string
		flags []string
		want  reach
	}{
		{"by-passt", "passt", []string{"--publish", "28100:80"}, reach{false, true, true}},
		{"alone", "qemu", []string{"--isolated", "--publish", "28101:80"}, reach{}},
		{"by-qemu", "qemu", []string{"--publish", "28102:80", "--publish", "28102:80/udp"}, reach{true, true, true}},
	} {
		if c.name == "by-qemu" {
			b.Set("BANGER_NETWORK_USER", "qemu")
			kill(t, b.daemonPID())
		}
		v := b.boot(c.name, c.flags...)
		if v.Stack != c.stack || !v.Ready || v.Problem != nil {
			t.Errorf("%s: %+v", c.name, v)
		}
		gateway = b.in(c.name, "ip route show default | cut -d' ' -f3")
		tcp, udp := b.measure(c.name, gateway, ports)
		if tcp != c.want || udp != c.want {
			t.Errorf("%s reaches %+v by TCP, %+v by UDP, want %+v", c.name, tcp, udp, c.want)
		}
		name := ""
		if c.want.outside {
			name = far.String()
		}
		if got := b.in(c.name, "getent ahostsv4 www.example.com | cut -d' ' -f1 | sort -u"); got != name {
			t.Errorf("in %s www.example.com is %q, want %q", c.name, got, name)
		}
		b.answer(c.name)
	}
	if v := b.show("by-passt"); v.Stack != "passt" || v.Problem != nil || !v.Ready {
		t.Errorf("after the daemon's end: %+v", v)
	}
	b.answers("by-passt", 28100, "tcp4")
	b.answers("alone", 28101, "tcp4")
	b.answers("by-qemu", 28102, "tcp4", "udp4")
	// VMs share nothing: another's address leads nowhere.
	there := fmt.Sprintf("exec 3<>/dev/tcp/%s/80 && echo hello >&3 && head -n1 <&3", b.show("by-passt").Addr)
	if r := b.run("vm", "exec", "-n", "by-qemu", "--", "timeout", "10", "bash", "-c", there); strings.Contains(r.out, "heard") {
		t.Errorf("a guest reaches another's address: %+v", r)
	}
}

// passtOf is the PID of a VM's passt.
func (b box) passtOf(v banger.VM) int {
	b.t.Helper()
	left, err := b.Leftovers()
	if err != nil {
		b.t.Fatal(err)
	}
	for _, l := range left {
		if strings.Contains(l.What, "/vms/"+string(v.ID)+"/net.sock") && strings.Contains(l.What, ": passt ") {
			return l.PID
		}
	}
	b.t.Fatalf("%s has no passt among %v", v.Name, left)
	return 0
}

// passt dies under a VM that runs: it is shown, told at once to whoever needs
// the guest, and healed by what the remedy says. It also ends with its VMM.
func TestPasstDies(t *testing.T) {
	needPasst(t)
	b := fresh(t)
	b.Set("BANGER_NETWORK_USER", "auto")
	v := b.boot("web")
	if v.Stack != "passt" {
		t.Skip("network mode user is not made of passt here: see banger doctor")
	}
	kill(t, b.passtOf(v))
	now := b.until("web", limit, func(v banger.VM) bool { return v.Problem != nil })
	if now.State != banger.StateRunning || now.Ready || now.PID != v.PID || !strings.Contains(now.Problem.Message, "passt was ended by SIGKILL") || !strings.Contains(now.Problem.Remedy, "vm restart") {
		t.Errorf("%+v, problem %+v", now, now.Problem)
	}
	if out := b.ok("ps"); !strings.Contains(out, "degraded") {
		t.Errorf("ps:\n%s", out)
	}
	if r := b.run("vm", "exec", "-n", "web", "--", "true"); r.code == 0 || !strings.Contains(r.err, "passt was ended") || !strings.Contains(r.err, "vm restart") {
		t.Errorf("exec: %+v", r)
	}
	kill(t, b.daemonPID())
	b.ok("vm", "list") // starts the next
	again := b.until("web", limit, func(v banger.VM) bool { return v.Problem != nil })
	if again.State != banger.StateRunning || !strings.Contains(again.Problem.Message, "its network is gone") {
		t.Errorf("to the next daemon: %+v, problem %+v", again, again.Problem)
	}
	b.ok("vm", "restart", "web")
	healed := b.show("web")
	if healed.Problem != nil || !healed.Ready || healed.Stack != "passt" {
		t.Errorf("restarted: %+v", healed)
	}
	passt := b.passtOf(healed)
	kill(t, healed.PID) // the VMM, by somebody
	b.until("web", limit, func(v banger.VM) bool { return v.State == banger.StateStopped })
	b.ok("vm", "stop", "web") // behind what follows a VMM's end
	if _, err := os.Stat("/proc/" + strconv.Itoa(passt)); err == nil {
		t.Error("passt outlived its VMM")
	}
	for _, name := range []string{"net.sock", "net.pid"} {
		if _, err := os.Lstat(b.State + "/vms/" + string(v.ID) + "/" + name); err == nil {
			t.Errorf("%s was left", name)
		}
	}
}

// A port that another program has is an error before anything starts.
func TestPortIsTaken(t *testing.T) {
	b := common(t)
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	port := l.Addr().(*net.TCPAddr).Port
	t.Cleanup(func() { b.run("vm", "delete", "--force", "taken") })
	b.ok("vm", "create", "--no-start", "--name", "taken", "--publish", fmt.Sprintf("%d:80", port))
	r := b.run("vm", "start", "taken")
	if r.code != 5 || !strings.Contains(r.err, "another program listens on that port") || !strings.Contains(r.err, "ss -ltnp") {
		t.Errorf("start: %+v", r)
	}
	if v := b.show("taken"); v.State != banger.StateError || v.PID != 0 {
		t.Errorf("%+v", v)
	}
}
