package matrix

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"banger"
	"banger/internal/api"
)

var seed = flag.Uint64("seed", 1, "of what the clients of TestClients do")

// clients act at the same time for a while, on a VM of their own each and on
// some that all of them have.
const (
	clients = 8
	during  = time.Minute
	shared  = 3
)

// TestClients has clients do random things. After each, the client's own VM is
// what its model says; of the shared ones, whatever became of them is told as one
// of the things that can be. In the end all there is, is what there should be.
func TestClients(t *testing.T) {
	b := own(t, false)
	before, err := b.world()
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	done := make([]map[string]int, clients)
	errs := make([]error, clients)
	var all sync.WaitGroup
	for i := range clients {
		all.Go(func() {
			a := &actor{box: b, r: rand.New(rand.NewPCG(*seed, uint64(i))), own: fmt.Sprintf("own-%d", i), state: absent, did: map[string]int{}}
			for errs[i] == nil && time.Since(began) < during {
				errs[i] = a.act()
			}
			done[i] = a.did
		})
	}
	all.Wait()
	total, kinds := 0, map[string]int{}
	for i, err := range errs {
		if err != nil {
			t.Errorf("client %d (-seed %d): %v", i, *seed, err)
		}
		for what, n := range done[i] {
			kinds[what] += n
			total += n
		}
	}
	for _, v := range verbs {
		if kinds[v.name+" own: ok"] == 0 {
			t.Errorf("no client ever succeeded with %s", v.name)
		}
	}
	t.Logf("report: %d clients (seed %d): %d things done", clients, *seed, total)
	t.Log(kinds)
	b.accounted()
	vms, err := b.client.ListVMs(b.ctx())
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range vms {
		b.do(func() (op, error) { return b.client.DeleteVM(b.ctx(), api.DeleteRequest{VM: v.Name, Force: true}) })
	}
	err = until(20*time.Second, func() error {
		now, err := b.world()
		if d := diff(before, now); err == nil && d != "" {
			err = errors.New(d)
		}
		return err
	})
	if err != nil {
		t.Errorf("with all VMs deleted, the world differs (-: missing, +: too much):\n%v", err)
	}
}

// accounted fails unless there is a VMM for each VM that runs, and no other.
func (b *box) accounted() {
	b.t.Helper()
	vms, err := b.client.ListVMs(b.ctx())
	if err != nil {
		b.t.Fatal(err)
	}
	var want, got []int
	for _, v := range vms {
		if v.State == banger.StateRunning {
			want = append(want, v.PID)
		} else if v.State != banger.StateStopped || v.Problem != nil {
			b.t.Errorf("%s is left %s: %v", v.Name, v.State, v.Problem)
		}
	}
	for _, p := range b.vmms() {
		got = append(got, p.pid)
	}
	slices.Sort(want)
	slices.Sort(got)
	if !slices.Equal(want, got) {
		b.t.Errorf("VMMs %v for VMs %v", got, want)
	}
}

// An actor is a client and its model: the state of the VM that nobody else has.
type actor struct {
	*box
	r     *rand.Rand
	own   string
	state string
	did   map[string]int
}

// A verb is one of the things that a client does to a VM, what it leads to from
// each state in which it succeeds, and what it is told in others.
type verb struct {
	name    string
	begin   func(a *actor, vm string) (op, error)
	to      map[string]string
	refused banger.Code // told in a state that is there and not in to
}

const (
	running = string(banger.StateRunning)
	stopped = string(banger.StateStopped)
)

var verbs = []verb{
	{"create", func(a *actor, vm string) (op, error) { return a.client.CreateVM(a.ctx(), smallest(vm, "user")) },
		map[string]string{absent: running}, banger.Exists},
	{"create --no-start", func(a *actor, vm string) (op, error) {
		r := smallest(vm, "user")
		r.NoStart = true
		return a.client.CreateVM(a.ctx(), r)
	}, map[string]string{absent: stopped}, banger.Exists},
	{"start", func(a *actor, vm string) (op, error) { return a.client.StartVM(a.ctx(), api.VMRequest{VM: vm}) },
		map[string]string{stopped: running}, banger.WrongState},
	{"stop", func(a *actor, vm string) (op, error) { return a.client.StopVM(a.ctx(), api.StopRequest{VM: vm}) },
		map[string]string{running: stopped, stopped: stopped}, ""},
	{"kill", func(a *actor, vm string) (op, error) { return a.client.KillVM(a.ctx(), api.VMRequest{VM: vm}) },
		map[string]string{running: stopped}, banger.WrongState},
	{"restart", func(a *actor, vm string) (op, error) { return a.client.RestartVM(a.ctx(), api.StopRequest{VM: vm}) },
		map[string]string{running: running, stopped: running}, banger.WrongState},
	{"reset", func(a *actor, vm string) (op, error) { return a.client.ResetVM(a.ctx(), api.VMRequest{VM: vm}) },
		map[string]string{stopped: stopped}, banger.WrongState},
	{"delete", func(a *actor, vm string) (op, error) {
		return a.client.DeleteVM(a.ctx(), api.DeleteRequest{VM: vm})
	}, map[string]string{stopped: absent}, banger.WrongState},
	{"delete --force", func(a *actor, vm string) (op, error) {
		return a.client.DeleteVM(a.ctx(), api.DeleteRequest{VM: vm, Force: true})
	}, map[string]string{stopped: absent, running: absent}, ""},
}

// act does one thing, to the own VM or to a shared one, and looks.
func (a *actor) act() error {
	v := verbs[a.r.IntN(len(verbs))]
	if a.r.IntN(2) == 0 {
		if err := a.mine(v); err != nil {
			return err
		}
		return a.look()
	}
	vm := fmt.Sprintf("shared-%d", a.r.IntN(shared))
	code := outcome(v.begin(a, vm))
	a.did[v.name+" shared: "+code]++
	switch banger.Code(code) {
	case "ok", banger.NotFound, banger.Exists, banger.WrongState, banger.Busy:
		return a.look()
	}
	return fmt.Errorf("%s %s: told %s", v.name, vm, code)
}

// mine does something to the own VM, and compares with the model what is told.
func (a *actor) mine(v verb) error {
	want, to := string(v.refused), a.state
	switch next, ok := v.to[a.state]; {
	case ok:
		want, to = "ok", next
	case a.state == absent:
		want = string(banger.NotFound)
	}
	was := a.state
	code := outcome(v.begin(a, a.own))
	a.did[v.name+" own: "+code]++
	if a.state = to; code != want {
		return fmt.Errorf("%s %s, which is %s: told %s, want %s", v.name, a.own, was, code, want)
	}
	return nil
}

// outcome awaits an operation, and is ok or its error's code.
func outcome(o op, err error) string {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	if err == nil {
		_, err = o.Wait(ctx, nil)
	}
	switch code := banger.CodeOf(err); {
	case err == nil:
		return "ok"
	case code == banger.Internal || code == banger.Lost || code == banger.HostUnready:
		return fmt.Sprintf("%s: %v", code, err)
	default:
		return string(code)
	}
}

// look compares with the model what all are told of the own VM, and fails if two
// VMs have the same of anything.
func (a *actor) look() error {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	vms, err := a.client.ListVMs(ctx)
	if err != nil {
		return err
	}
	state, taken := absent, map[string]string{}
	for _, v := range vms {
		if v.Name == a.own {
			state = string(v.State)
			if v.Problem != nil {
				state += " with a problem: " + v.Problem.Message
			}
		}
		for _, has := range []string{"name " + v.Name, "ID " + string(v.ID), "address " + v.Addr.String(), "MAC " + v.MAC, "process " + strconv.Itoa(v.PID)} {
			if other, ok := taken[has]; ok && has != "process 0" {
				return fmt.Errorf("%s and %s both have %s", other, v.Name, has)
			}
			taken[has] = v.Name
		}
	}
	if state != a.state {
		return fmt.Errorf("%s is %s, and should be %s", a.own, state, a.state)
	}
	return nil
}
