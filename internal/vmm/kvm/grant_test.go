package kvm_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"

	"banger"
	"banger/internal/vmm/kvm"
)

// A granter notes what it is asked.
type granter struct {
	mu     sync.Mutex
	asked  []string
	refuse error
}

func (g *granter) AllowKVM(context.Context) error  { return g.note("allow") }
func (g *granter) RevokeKVM(context.Context) error { return g.note("revoke") }

func (g *granter) note(what string) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.asked = append(g.asked, what)
	return g.refuse
}

// The grant is there while any start is under way, and no longer.
func TestHold(t *testing.T) {
	g := &granter{}
	d := kvm.New(1000, g)
	d.SetGranted()
	one, err := d.Hold(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	two, err := d.Hold(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	one()
	one() // again: nothing to do
	if !slices.Equal(g.asked, []string{"allow"}) {
		t.Errorf("while one start is under way: %v", g.asked)
	}
	two()
	if !slices.Equal(g.asked, []string{"allow", "revoke"}) {
		t.Errorf("after all: %v", g.asked)
	}
	g.refuse = errors.New("no")
	if _, err := d.Hold(t.Context()); banger.CodeOf(err) != banger.HostUnready || !errors.Is(err, g.refuse) {
		t.Errorf("refused: %v", err)
	}
}

// What a daemon died with the next one gives back, but never under a start.
func TestTakeBack(t *testing.T) {
	kvm.New(0, nil).TakeBack(t.Context())
	g := &granter{}
	d := kvm.New(1000, g)
	d.SetGranted()
	release, err := d.Hold(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	d.TakeBack(t.Context())
	if !slices.Equal(g.asked, []string{"allow"}) {
		t.Errorf("under a start: %v", g.asked)
	}
	release()
	g.asked = nil
	d.TakeBack(t.Context())
	if !slices.Equal(g.asked, []string{"revoke"}) {
		t.Errorf("asked for %v", g.asked)
	}
}

// Who may open the device anyway is given nothing.
func TestHoldWithoutNeed(t *testing.T) {
	g := &granter{}
	release, err := kvm.New(1000, g).Hold(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	release()
	if len(g.asked) != 0 {
		t.Errorf("asked for %v", g.asked)
	}
}
