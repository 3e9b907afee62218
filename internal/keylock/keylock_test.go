package keylock_test

import (
	"context"
	"errors"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"banger/internal/keylock"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func lock(t *testing.T, m *keylock.Map[string], key string) func() {
	t.Helper()
	unlock, err := m.Lock(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	return unlock
}

// One holder per key at a time, and nothing is kept of keys that nobody uses.
func TestExclusive(t *testing.T) {
	var m keylock.Map[int]
	var wg sync.WaitGroup
	var count [3]int // guarded by the locks alone: the race detector watches
	const each = 200
	for g := range 12 {
		wg.Go(func() {
			for range each {
				unlock, err := m.Lock(t.Context(), g%3)
				if err != nil {
					t.Error(err)
					return
				}
				count[g%3]++
				unlock()
			}
		})
	}
	wg.Wait()
	if count != [3]int{4 * each, 4 * each, 4 * each} || m.Len() != 0 {
		t.Errorf("count %v, %d keys left", count, m.Len())
	}
}

func TestKeysAreIndependent(t *testing.T) {
	var m keylock.Map[string]
	a, b := lock(t, &m, "a"), lock(t, &m, "b")
	if m.Len() != 2 {
		t.Errorf("%d keys", m.Len())
	}
	a()
	b()
}

// A waiter whose context ends leaves with its cause, and the lock goes on.
func TestWaiterLeaves(t *testing.T) {
	var m keylock.Map[string]
	unlock := lock(t, &m, "a")
	gone := errors.New("the client is gone")
	ctx, cancel := context.WithCancelCause(t.Context())
	got := make(chan error)
	go func() {
		_, err := m.Lock(ctx, "a")
		got <- err
	}()
	cancel(gone)
	if err := <-got; !errors.Is(err, gone) {
		t.Errorf("err = %v", err)
	}
	unlock()
	lock(t, &m, "a")()
	if m.Len() != 0 {
		t.Errorf("%d keys left", m.Len())
	}
}

// An ended context never gets the lock, not even a free one.
func TestEndedContext(t *testing.T) {
	var m keylock.Map[string]
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for range 100 {
		if unlock, err := m.Lock(ctx, "a"); err == nil || unlock != nil {
			t.Fatal("locked")
		}
	}
	if m.Len() != 0 {
		t.Errorf("%d keys left", m.Len())
	}
}

// A second unlock does not give away what somebody else holds by then.
func TestUnlockTwice(t *testing.T) {
	var m keylock.Map[string]
	first := lock(t, &m, "a")
	first()
	second := lock(t, &m, "a")
	defer second()
	first()
	ctx, cancel := context.WithCancel(t.Context())
	got := make(chan error)
	go func() {
		_, err := m.Lock(ctx, "a")
		got <- err
	}()
	cancel()
	if err := <-got; err == nil {
		t.Error("locked twice")
	}
}
