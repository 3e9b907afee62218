package vm_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"

	"banger"
	"banger/internal/guest"
	"banger/internal/guestapi"
	"banger/internal/vm"
	"banger/internal/vmm"
)

type backend struct{ w *world }

func (backend) Name() string { return "pretend" }
func (backend) Probe(context.Context) (vmm.Caps, error) {
	return vmm.Caps{Formats: []banger.DiskFormat{banger.FormatQCOW2}, Accelerator: "tcg", Why: "pretend"}, nil
}

func (b backend) Start(_ context.Context, m vmm.Machine, launched func(banger.Handle) error) (vmm.Process, error) {
	p := &process{w: b.w, launch: m.Launch, gone: make(chan struct{})}
	b.w.mu.Lock()
	b.w.procs[m.Launch] = p
	b.w.mu.Unlock()
	b.w.set("vmm of " + string(m.VM))
	p.line = "vmm of " + string(m.VM)
	if err := launched(p.Handle()); err != nil {
		return nil, errors.Join(err, p.Kill(context.Background()))
	}
	if b.w.early {
		b.w.console(m.SerialLog, "Kernel panic \x1b[31m\n")
		p.end(banger.Exit{Cause: banger.ExitUnknown})
	}
	if b.w.full {
		staller{p}.stall()
	}
	return b.w.as(p), nil
}

// as is p with what this world's VMMs can do.
func (w *world) as(p *process) vmm.Process {
	if w.stalls {
		return staller{p}
	}
	return p
}

// A staller is a process that stalls by itself.
type staller struct{ *process }

func (s staller) stall()          { s.w.set(s.stalled()) }
func (s staller) stalled() string { return "stalled " + strings.TrimPrefix(s.line, "vmm of ") }
func (s staller) Stalled() bool   { return strings.Contains(s.w.String(), s.stalled()) }
func (s staller) Resume(ctx context.Context) error {
	s.w.unset(s.stalled())
	return s.process.Resume(ctx)
}

func (b backend) Adopt(ctx context.Context, h banger.Handle) (vmm.Process, error) {
	if b.w.stuck != nil {
		select {
		case <-b.w.stuck:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	b.w.mu.Lock()
	p := b.w.procs[h.Launch]
	b.w.mu.Unlock()
	switch {
	case p == nil || p.over():
		return nil, vmm.ErrGone
	case b.w.blank:
		return nil, errors.Join(vmm.ErrNoGuest, p.Kill(ctx))
	}
	return b.w.as(p), nil
}

type process struct {
	w            *world
	launch, line string
	once         sync.Once
	gone         chan struct{}
	exit         banger.Exit
	tty          net.Conn // the guest's end of its console, once somebody attached
}

func (p *process) Console(context.Context) (net.Conn, error) {
	ours, theirs := net.Pipe()
	p.w.mu.Lock()
	defer p.w.mu.Unlock()
	p.tty = theirs
	go func() { <-p.gone; theirs.Close() }()
	return ours, nil
}

func (p *process) over() bool { return slices.Contains([]bool{closed(p.gone)}, true) }

func closed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

func (p *process) end(e banger.Exit) {
	p.once.Do(func() {
		p.exit = e
		p.w.unset(p.line)
		close(p.gone)
	})
}
func (p *process) Handle() banger.Handle {
	return banger.Handle{Backend: "pretend", Launch: p.launch, PID: 1}
}
func (p *process) Shutdown(context.Context) error {
	p.end(banger.Exit{Cause: banger.ExitGuest})
	return nil
}
func (p *process) Pause(ctx context.Context) error {
	if p.w.hung != "" && strings.HasSuffix(p.line, p.w.hung) {
		<-ctx.Done()
		return ctx.Err()
	}
	p.w.set("held " + strings.TrimPrefix(p.line, "vmm of "))
	return nil
}
func (p *process) Resume(context.Context) error {
	p.w.unset("held " + strings.TrimPrefix(p.line, "vmm of "))
	return nil
}
func (p *process) Kill(context.Context) error {
	p.end(banger.Exit{Cause: banger.ExitKilled})
	return nil
}
func (p *process) Wait(ctx context.Context) (banger.Exit, error) {
	select {
	case <-p.gone:
		return p.exit, nil
	case <-ctx.Done():
		return banger.Exit{}, ctx.Err()
	}
}
func (p *process) Close() error { return nil }

type guests struct{ w *world }

func (g guests) Reach(ctx context.Context, t vm.Target, gone <-chan struct{}) (vm.Guest, error) {
	if g.w.mute {
		select {
		case <-gone:
			return nil, guest.ErrGone
		case <-ctx.Done():
			return nil, fmt.Errorf("wait for guest: %w (last attempt: refused)", context.Cause(ctx))
		}
	}
	if closed(gone) {
		return nil, guest.ErrGone
	}
	g.w.set("connection to " + string(t.VM))
	return pretendGuest{g.w, t}, nil
}
func (g guests) Drop(id banger.VMID, _ string) { g.w.unset("connection to " + string(id)) }
func (g guests) Close()                        {}

type pretendGuest struct {
	w *world
	t vm.Target
}

func (g pretendGuest) Status(context.Context) (guestapi.Status, error) {
	st := guestapi.Status{Launch: g.t.Launch, System: "running", Problem: g.w.lack}
	g.w.mu.Lock()
	p := g.w.procs[g.t.Launch]
	g.w.mu.Unlock()
	if g.w.system != nil {
		st.System = g.w.system(p)
	}
	st.Booted = st.System == "running"
	return st, nil
}

func (g pretendGuest) WaitBooted(ctx context.Context) (guestapi.Status, error) { return g.Status(ctx) }
func (g pretendGuest) Shutdown(context.Context, string) error {
	g.w.mu.Lock()
	p := g.w.procs[g.t.Launch]
	g.w.mu.Unlock()
	if g.w.deaf {
		return nil
	}
	p.end(banger.Exit{Cause: banger.ExitGuest})
	return nil
}

func (g pretendGuest) Copy(context.Context, guestapi.Copy, guest.Streams) (guest.Exit, error) {
	return guest.Exit{}, nil
}

// Exec ends with its VM when it is told to sleep, else at once.
func (g pretendGuest) Exec(_ context.Context, e guestapi.Exec, s guest.Streams) (guest.Exit, error) {
	if e.Argv[0] != "sleep" {
		return guest.Exit{}, nil
	}
	g.w.mu.Lock()
	p := g.w.procs[g.t.Launch]
	g.w.mu.Unlock()
	_, _ = s.Stdout.Write([]byte("asleep"))
	<-p.gone
	return guest.Exit{}, fmt.Errorf("run sleep in guest: %w", guest.ErrLost)
}
