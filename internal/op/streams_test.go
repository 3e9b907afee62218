package op_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"banger"
	"banger/internal/op"
)

// Those who follow streams are told of the end and waited for, within a limit.
func TestEndStreams(t *testing.T) {
	m, _ := manager()
	leave, err := m.Attach("vm.exec", "web")
	if err != nil {
		t.Fatal(err)
	}
	if l := m.Streams(); len(l) != 1 || l[0].Subject != "web" {
		t.Errorf("streams: %v", l)
	}
	select {
	case <-m.Ending():
		t.Fatal("the end is told before it came")
	default:
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := m.EndStreams(ended); err == nil {
		t.Error("a stream that does not end is not told")
	}
	go func() {
		<-m.Ending()
		leave()
	}()
	if err := m.EndStreams(t.Context()); err != nil {
		t.Error(err)
	}
	if err := m.EndStreams(t.Context()); err != nil || len(m.Streams()) != 0 {
		t.Errorf("again: %v, %v", err, m.Streams())
	}
}

// Seal waits for nobody: what is under way, operation or stream, is told, and
// all goes on as before; once there is nothing, nothing new begins.
func TestSeal(t *testing.T) {
	m, clock := manager()
	counts := func(i op.Info) bool { return i.Kind != "vm.wait" }
	expect := func(want string) {
		t.Helper()
		got := ""
		for _, i := range m.Seal(counts) {
			got += fmt.Sprintf("%s %s\n", i.Kind, i.Subject)
		}
		if got != want {
			t.Errorf("busy with %q, want %q", got, want)
		}
	}
	work := func(ctx context.Context, _ *op.Reporter) (any, error) {
		<-ctx.Done()
		return nil, context.Cause(ctx)
	}
	leave, err := m.Attach("vm.exec", "web")
	if err != nil {
		t.Fatal(err)
	}
	clock.move(time.Second)
	create, err := m.Start("vm.create", "db", work)
	if err != nil {
		t.Fatal(err)
	}
	waits, err := m.Start("vm.wait", "web", work)
	if err != nil {
		t.Fatal(err)
	}
	expect("vm.exec web\nvm.create db\n")
	if l := m.List(); len(l) != 2 {
		t.Errorf("a stream is no operation: %v", l)
	}
	if err := m.Cancel(create); err != nil {
		t.Fatal(err)
	}
	follow(t, m, create, 0)
	for len(m.List()) > 1 { // its end is told a moment before it is noted
	}
	expect("vm.exec web\n")
	again, err := m.Attach("vm.logs", "web") // nothing is sealed yet
	if err != nil {
		t.Fatal(err)
	}
	leave()
	expect("vm.logs web\n")
	again()
	expect("")
	if _, err := m.Attach("vm.exec", "web"); banger.CodeOf(err) != banger.Busy {
		t.Errorf("a stream after all: %v", err)
	}
	if _, err := m.Start("vm.start", "web", work); banger.CodeOf(err) != banger.Busy {
		t.Errorf("an operation after all: %v", err)
	}
	if err := m.Cancel(waits); err != nil {
		t.Fatal(err)
	}
	follow(t, m, waits, 0)
}
