package matrix

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"banger"
	"banger/internal/api"
	"banger/internal/api/client"
)

// Names follow the VM: whatever was acknowledged is what the very next question is
// answered with. Nothing is waited for here but the ends that nobody asked for.
func TestNames(t *testing.T) {
	b := own(t, false)
	b.named("before there is one", "m.vm", "NXDOMAIN")
	port := freePort(t)
	b.do(b.publishing(port))
	b.named("created, not started", "m.vm", "NXDOMAIN")
	b.startAndMeasure()
	b.named("started", "m.vm", "127.0.0.1")
	b.named("started", "M.vm", "127.0.0.1")

	id := string(b.show().ID)
	name := func(n string) {
		t.Helper()
		if _, err := b.client.SetVM(b.ctx(), api.SetRequest{VM: id, Name: api.Some(n)}); err != nil {
			t.Fatal(err)
		}
	}
	name("other")
	b.named("renamed", "m.vm", "NXDOMAIN")
	b.named("renamed", "other.vm", "127.0.0.1")
	name(vmName)
	b.named("renamed back", "m.vm", "127.0.0.1")

	b.do(b.stop)
	b.named("stopped", "m.vm", "NXDOMAIN")
	b.do(b.start)
	b.named("started again", "m.vm", "127.0.0.1")
	b.do(b.restart)
	b.named("restarted", "m.vm", "127.0.0.1")
	b.do(b.killVM)
	b.named("killed", "m.vm", "NXDOMAIN")

	b.do(b.start)
	b.tellGuest("reboot")
	b.eventually("the guest's reboot is seen", func() error {
		if v := b.show(); v.LastExit == nil || !v.LastExit.Reboot || !v.Ready {
			return fmt.Errorf("%s, last exit %+v", v.State, v.LastExit)
		}
		return nil
	})
	b.named("rebooted", "m.vm", "127.0.0.1")
	b.tellGuest("poweroff")
	b.awaitStopped()
	b.named("powered off by the guest", "m.vm", "NXDOMAIN")
	b.do(b.start)
	b.killProcess(b.vmms()[0].pid)
	b.awaitStopped()
	b.named("after its VMM's death", "m.vm", "NXDOMAIN")

	b.do(b.start)
	b.kill()
	b.up()
	b.named("with the next daemon", "m.vm", "127.0.0.1")
	b.end()
	b.up()
	b.named("with the one after that", "m.vm", "127.0.0.1")
	b.kill()
	b.killProcess(b.vmms()[0].pid)
	b.up()
	b.named("ended between two daemons", "m.vm", "NXDOMAIN")

	none := api.Some([]banger.Publish{})
	if _, err := b.client.SetVM(b.ctx(), api.SetRequest{VM: vmName, Publish: none}); err != nil {
		t.Fatal(err)
	}
	b.do(b.start)
	b.named("without a published port", "m.vm", "NODATA")
	b.do(b.delete)
	b.named("deleted", "m.vm", "NXDOMAIN")
}

// A start that is undone leaves no name, wherever it failed.
func TestNamesOfFailedStarts(t *testing.T) {
	b := own(t, false)
	b.do(b.publishing(freePort(t)))
	for _, at := range []point{"before ensure vmm", "after ensure vmm", "before ensure guest", "after ensure guest"} {
		b.faults.watch("", newTrap(at, func() (answer, bool) { return answer{Fail: "on purpose"}, true }))
		o, err := b.start()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := o.Wait(b.ctx(), nil); err == nil {
			t.Fatalf("%s: the start succeeded", at)
		}
		b.named("a start failed "+string(at), "m.vm", "NXDOMAIN")
	}
}

// publishing makes a VM that publishes a port, and does not start it.
func (b *box) publishing(port uint16) begin {
	return func() (*client.Op[banger.VM], error) {
		at := netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), port)
		return b.client.CreateVM(b.ctx(), api.CreateRequest{
			Name: api.Some(vmName), Image: api.Some(imageName), NoStart: true, Network: api.Some("user"),
			CPUs: api.Some(1), Memory: api.Some(int64(128 << 20)), Disk: api.Some(int64(16 << 20)),
			Publish: api.Some([]banger.Publish{{Host: at, Guest: 80, Proto: banger.TCP}}),
		})
	}
}

// awaitStopped waits for an end that nobody asked for.
func (b *box) awaitStopped() {
	b.t.Helper()
	op, err := b.client.WaitVM(b.ctx(), api.WaitRequest{VM: vmName, For: "stopped"})
	if err == nil {
		_, err = op.Wait(b.ctx(), nil)
	}
	if err != nil {
		b.t.Fatal(err)
	}
}

// startAndMeasure starts the VM, and logs how long after it was ready its name was
// there; below 0 is before.
func (b *box) startAndMeasure() {
	b.t.Helper()
	ctx, cancel := context.WithCancel(b.ctx())
	defer cancel()
	named := make(chan time.Time, 1)
	go func() {
		for ctx.Err() == nil {
			if got, err := b.resolve("m.vm"); err == nil && got == "127.0.0.1" {
				named <- time.Now()
				return
			}
		}
	}()
	b.do(b.start)
	ready := time.Now()
	select {
	case at := <-named:
		b.t.Logf("the name was there %v after the VM was ready", at.Sub(ready))
	case <-time.After(limit):
		b.t.Error("the name never came")
	}
}

// named asserts what a name is: an address, NXDOMAIN or NODATA, by UDP and TCP.
func (b *box) named(when, name, want string) {
	b.t.Helper()
	got, err := b.resolve(name)
	if err != nil || got != want {
		b.t.Errorf("%s: %s is %s, want %s (%v)", when, name, got, want, err)
	}
}

// resolve asks the daemon's own server.
func (b *box) resolve(name string) (answer string, err error) {
	st, err := b.client.DaemonStatus(context.Background())
	if err != nil {
		return "", err
	}
	for _, network := range []string{"udp", "tcp"} {
		c := dns.Client{Net: network, Timeout: limit}
		m, _, err := c.Exchange(new(dns.Msg).SetQuestion(name+".", dns.TypeA), st.DNS.Listen)
		if err != nil {
			return "", err
		}
		var all []string
		for _, rr := range m.Answer {
			all = append(all, rr.(*dns.A).A.String())
		}
		one := strings.Join(all, " ")
		switch {
		case m.Rcode != dns.RcodeSuccess:
			one = dns.RcodeToString[m.Rcode]
		case one == "":
			one = "NODATA"
		}
		if network == "tcp" && one != answer {
			return "", fmt.Errorf("%s by UDP, %s by TCP", answer, one)
		}
		answer = one
	}
	return answer, nil
}

func freePort(t *testing.T) uint16 {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).AddrPort().Port()
}
