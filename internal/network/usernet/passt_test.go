package usernet_test

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"banger"
	"banger/internal/host"
	"banger/internal/network"
	"banger/internal/network/usernet"
)

// When Attach returns, the socket listens and so does every port, as the VM's
// user; a second Attach changes nothing; Detach leaves nothing.
func TestPasst(t *testing.T) {
	b := working(t)
	port := free(t)
	n := b.nic(1, fmt.Sprintf("%d:80", port))
	a := b.daemon(usernet.StackAuto)
	ep := attach(t, a, n, nil)
	if ep.Stack != usernet.StackPasst || ep.Socket != b.file(n.VM, "net.sock") || ep.User != nil {
		t.Errorf("endpoint %+v", ep)
	}
	p := b.one()
	uid := os.Geteuid()
	if n.Owner != nil {
		uid = int(n.Owner.UID)
	}
	if p.UID != uid {
		t.Errorf("it runs as %d, not %d", p.UID, uid)
	}
	for _, at := range []netip.AddrPort{ep.SSH, n.Publish[0].Host} {
		if l, err := net.Listen("tcp4", at.String()); err == nil {
			l.Close()
			t.Errorf("nobody listens on %s", at)
		}
	}
	if again := attach(t, a, n, nil); !reflect.DeepEqual(again, ep) || b.one().ProcID != p.ProcID {
		t.Errorf("a second attach gives %+v", again)
	}
	c, err := net.Dial("unix", ep.Socket)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	detach(t, a, n)
	detach(t, a, n)
	b.nothing(n.VM)
}

// It ends with the VMM that was its client; that is seen.
func TestPasstEndsWithItsClient(t *testing.T) {
	b := working(t)
	n, a := b.nic(1), b.daemon(usernet.StackAuto)
	ep := attach(t, a, n, nil)
	c, err := net.Dial("unix", ep.Socket)
	if err != nil {
		t.Fatal(err)
	}
	gone, _ := a.Lost(n.VM)
	c.Close()
	wait(t, gone, "the loss")
	detach(t, a, n)
	b.nothing(n.VM)
}

// A daemon that was started anew finds it, sees its end, and ends it.
func TestPasstIsAdopted(t *testing.T) {
	b := working(t)
	n := b.nic(1)
	ep := attach(t, b.daemon(usernet.StackAuto), n, nil)
	p := b.one()

	next := b.daemon(usernet.StackQEMU) // whatever is configured by now
	if again := attach(t, next, n, &ep); !reflect.DeepEqual(again, ep) || b.one().ProcID != p.ProcID {
		t.Errorf("adopted as %+v", again)
	}
	gone, why := next.Lost(n.VM)
	select {
	case <-gone:
		t.Fatal("lost, and it lives")
	default:
	}
	if err := host.Signal(p.ProcID, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	wait(t, gone, "the loss")
	if e := banger.AsError(why()); e.Code != banger.HostUnready || !strings.Contains(e.Message, "its network is gone") || e.Remedy == "" {
		t.Errorf("why: %+v", e)
	}
	detach(t, next, n)
	b.nothing(n.VM)
}

// One that ended while no daemon ran is lost from the start; one that nobody
// adopted is ended all the same.
func TestPasstWithoutADaemon(t *testing.T) {
	b := working(t)
	n := b.nic(1)
	ep := attach(t, b.daemon(usernet.StackAuto), n, nil)
	p := b.one()
	if err := host.Signal(p.ProcID, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	b.ended(p)
	next := b.daemon(usernet.StackAuto)
	attach(t, next, n, &ep)
	gone, why := next.Lost(n.VM)
	wait(t, gone, "the loss")
	if e := banger.AsError(why()); !strings.Contains(e.Message, "while bangerd was not running") {
		t.Errorf("why: %+v", e)
	}
	detach(t, next, n)
	b.nothing(n.VM)

	attach(t, b.daemon(usernet.StackAuto), n, nil)
	detach(t, b.daemon(usernet.StackAuto), n)
	b.nothing(n.VM)

	attach(t, b.daemon(usernet.StackAuto), n, nil)
	after := b.daemon(usernet.StackAuto)
	attach(t, after, n, nil) // a start that clears what was left
	b.one()
	detach(t, after, n)
	b.nothing(n.VM)
}

// Whoever merely names the socket in his argv is let be.
func TestPasstIsNotAnImpostor(t *testing.T) {
	b := working(t)
	n, a := b.nic(1), b.daemon(usernet.StackAuto)
	ep := attach(t, a, n, nil)
	cmd := exec.Command("sh", "-c", "sleep 1000; :", "sh", "-s", ep.Socket)
	if os.Geteuid() == 0 {
		cmd.Args[0] = "passt" // and another user's
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	next := b.daemon(usernet.StackAuto)
	detach(t, next, n)
	id, err := host.ProcOf(cmd.Process.Pid)
	if err != nil || !host.Alive(id) {
		t.Errorf("somebody else's process was ended: %v", err)
	}
	// the shell and its child
	for _, p := range b.processes() {
		if kids, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", p.PID, p.PID)); err == nil {
			var kid int
			if n, _ := fmt.Sscan(string(kids), &kid); n == 1 {
				unix.Kill(kid, unix.SIGKILL)
			}
		}
	}
	cmd.Process.Kill()
	cmd.Wait()
	detach(t, a, n)
	b.nothing(n.VM)
}

// A start that is cancelled leaves nothing.
func TestPasstCancelled(t *testing.T) {
	b := working(t)
	n, a := b.nic(1), b.daemon(usernet.StackAuto)
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if ep, err := a.Attach(ctx, n, nil); err == nil {
		t.Logf("it was quicker: %+v", ep)
		detach(t, a, n)
	}
	b.nothing(n.VM)
	detach(t, a, n)
}

// Where passt is missing or fails the VMM's own stack is used, unless passt is
// asked for by name; and that is told.
func TestWithoutPasst(t *testing.T) {
	for name, script := range map[string]string{
		"missing": "",
		"fails":   "#!/bin/sh\necho \"Couldn't create user namespace\" >&2\nexit 1\n",
		"mute":    "#!/bin/sh\nexit 0\n",
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			b.path = filepath.Join(b.dir, "bin")
			if err := os.Mkdir(b.path, 0o755); err != nil {
				t.Fatal(err)
			}
			if script != "" {
				if err := os.WriteFile(filepath.Join(b.path, "passt"), []byte(script), 0o755); err != nil {
					t.Fatal(err)
				}
			}
			n, a := b.nic(1, "127.0.0.1:28080:80"), b.daemon(usernet.StackAuto)
			ep := attach(t, a, n, nil)
			if ep.Stack != usernet.StackQEMU || ep.Socket != "" || !reflect.DeepEqual(ep.User.Publish, n.Publish) {
				t.Errorf("endpoint %+v", ep)
			}
			if told := strings.Contains(ep.Note, "127.0.0.1") && strings.Contains(ep.Note, "start passt"); told != (script != "") {
				t.Errorf("the note is %q", ep.Note)
			}
			if again := attach(t, b.daemon(usernet.StackQEMU), n, &ep); !reflect.DeepEqual(again, ep) {
				t.Errorf("adopted as %+v", again)
			}
			if found := a.Assess(t.Context(), n); found.Stack != usernet.StackQEMU || !strings.Contains(found.Message, "127.0.0.1") || !strings.Contains(found.Remedy, "passt would shut") {
				t.Errorf("%+v", found)
			} else {
				t.Log(found.Message, "->", found.Remedy)
			}
			detach(t, a, n)
			b.nothing(n.VM)

			strict := b.daemon(usernet.StackPasst)
			_, err := strict.Attach(t.Context(), n, nil)
			if e := banger.AsError(err); e == nil || e.Code != banger.HostUnready || !strings.Contains(e.Message, "start passt") {
				t.Errorf("asked for by name: %+v", e)
			}
			detach(t, strict, n)
			b.nothing(n.VM)
		})
	}
}

// Isolation is the VMM's own stack's work, as is UDP from the host, and an old
// VMM cannot be joined.
func TestNotByPasst(t *testing.T) {
	b := working(t)
	alone := b.nic(1)
	alone.Isolated = true
	a := b.daemon(usernet.StackAuto)
	if ep := attach(t, a, alone, nil); ep.User == nil || !ep.User.Isolated {
		t.Errorf("isolated: %+v", ep)
	}
	detach(t, a, alone)
	old := b.nic(2)
	old.Stream = false
	if ep := attach(t, a, old, nil); ep.User == nil {
		t.Errorf("an old VMM: %+v", ep)
	}
	detach(t, a, old)
	udp := b.nic(3, fmt.Sprintf("%d:53/udp", free(t)))
	if ep := attach(t, a, udp, nil); ep.User == nil || !reflect.DeepEqual(ep.User.Publish, udp.Publish) {
		t.Errorf("published by UDP: %+v", ep)
	}
	detach(t, a, udp)
	for _, n := range []network.NIC{old, udp} {
		if _, err := b.daemon(usernet.StackPasst).Attach(t.Context(), n, nil); banger.CodeOf(err) != banger.HostUnready || banger.AsError(err).Remedy == "" {
			t.Errorf("passt by name: %v", err)
		}
	}
	b.nothing(alone.VM)
}
