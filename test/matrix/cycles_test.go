package matrix

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"

	"banger"
	"banger/internal/api"
	"banger/internal/privileged/client"
	"banger/test/netns"
	"banger/test/sandbox"
)

// steady is the cycle after which nothing may grow any more.
const steady = 3

// atOnce is how many VMs go through their cycles at a time.
const atOnce = 4

// TestCycles makes, starts, stops and deletes a VM 200 times, then four at a
// time: what the daemon and the host have ends where it stood after the third.
func TestCycles(t *testing.T) {
	b := own(t, false)
	const cycles = 200
	b.cycles(cycles, func(name string) api.CreateRequest { return smallest(name, "user") }, nil)
}

// TestCyclesOfGuests does the same with real guests on routed taps, in a network
// namespace of the test's own: links and routes are counted, too.
func TestCyclesOfGuests(t *testing.T) {
	need(t)
	cycles := 10
	if os.Getenv("BANGER_TEST_LONG") != "" {
		cycles = 200
	}
	netns.Enter(t)
	t.Cleanup(func() { exitRoot(t) }) // after the installation's own end
	b := own(t, true)
	// The command line starts banger-root, a daemon cannot.
	b.command("vm", "create", "--name", "first", "--image", imageName, "--cpu", "1", "--memory", "128MiB", "--disk", "16MiB", "--network", "routed")
	if addr := b.shown("first").Addr.String(); !strings.Contains(netns.World(), "route "+addr+"/32") {
		t.Errorf("no route to %s: what is counted here is not what banger makes\n%s", addr, netns.World())
	}
	b.command("vm", "delete", "--force", "first")
	b.cycles(cycles, func(name string) api.CreateRequest { return smallest(name, "routed") }, netns.World)
}

// TestCyclesOfDebian does ten with the whole image of a runtime bundle.
func TestCyclesOfDebian(t *testing.T) {
	need(t)
	b := own(t, true)
	b.cycles(10, func(name string) api.CreateRequest {
		return api.CreateRequest{Name: api.Some(name), Bundle: api.Some(sandbox.Runtime()), Network: api.Some("user"), Memory: api.Some(int64(512 << 20))}
	}, nil)
}

// command runs banger, which must succeed.
func (b *box) command(args ...string) {
	b.t.Helper()
	if out, err := b.Command(b.ctx(), args...).CombinedOutput(); err != nil {
		b.t.Fatalf("banger %q: %v\n%s", args, err, out)
	}
}

// shown is a VM as the daemon tells it.
func (b *box) shown(name string) banger.VM {
	b.t.Helper()
	v, err := b.client.ShowVM(b.ctx(), api.VMRequest{VM: name})
	if err != nil {
		b.t.Fatal(err)
	}
	return v
}

// exitRoot ends banger-root, which would wait some minutes for another daemon.
func exitRoot(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	c, err := client.Dial(ctx, os.Geteuid())
	if err != nil {
		t.Errorf("reach banger-root: %v", err)
		return
	}
	if err := c.Exit(ctx); err != nil {
		t.Errorf("end banger-root: %v", err)
	}
	<-c.Done()
}

// cycles does n cycles one after the other, and a tenth of it with several VMs
// at once. host, if not nil, prints what else the host has.
func (b *box) cycles(n int, request func(name string) api.CreateRequest, host func() string) {
	t := b.t
	t.Helper()
	alone := func(n int) {
		for range n {
			if err := b.cycle(request("m")); err != nil {
				t.Fatal(err)
			}
		}
	}
	alone(steady)
	early := b.measure(host)
	alone(n/2 - steady)
	middle := b.measure(host)
	alone(n - n/2)
	b.settlesAt(fmt.Sprintf("%d cycles", n), early, middle, host)
	for range max(1, n/10) {
		b.together(request)
	}
	b.settlesAt(fmt.Sprintf("%d times %d VMs at once", max(1, n/10), atOnce), early, middle, host)
}

// cycle makes, starts, stops and deletes a VM.
func (b *box) cycle(r api.CreateRequest) error {
	c, name := b.client, r.Name.Value
	r.NoStart = true
	type begin = func() (op, error)
	for _, s := range []struct {
		what  string
		begin begin
		want  banger.State
	}{
		{"create", func() (op, error) { return c.CreateVM(b.ctx(), r) }, banger.StateStopped},
		{"start", func() (op, error) { return c.StartVM(b.ctx(), api.VMRequest{VM: name}) }, banger.StateRunning},
		{"stop", func() (op, error) { return c.StopVM(b.ctx(), api.StopRequest{VM: name}) }, banger.StateStopped},
		{"delete", func() (op, error) { return c.DeleteVM(b.ctx(), api.DeleteRequest{VM: name}) }, ""},
	} {
		o, err := s.begin()
		var v banger.VM
		if err == nil {
			v, err = o.Wait(b.ctx(), nil)
		}
		if err == nil && s.want != "" && v.State != s.want {
			err = fmt.Errorf("it is %s", v.State)
		}
		if err != nil {
			return fmt.Errorf("%s %s: %w", s.what, name, err)
		}
	}
	return nil
}

// smallest is the request for a VM that costs next to nothing.
func smallest(name, network string) api.CreateRequest {
	return api.CreateRequest{
		Name: api.Some(name), Image: api.Some(imageName), Network: api.Some(network),
		CPUs: api.Some(1), Memory: api.Some(int64(128 << 20)), Disk: api.Some(int64(16 << 20)),
	}
}

// together does a cycle with several VMs at once.
func (b *box) together(request func(name string) api.CreateRequest) {
	b.t.Helper()
	errs := make([]error, atOnce)
	var all sync.WaitGroup
	for i := range errs {
		all.Go(func() { errs[i] = b.cycle(request("m" + strconv.Itoa(i))) })
	}
	all.Wait()
	for _, err := range errs {
		if err != nil {
			b.t.Fatal(err)
		}
	}
}
