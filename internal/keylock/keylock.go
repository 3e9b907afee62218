// Package keylock is a set of locks, one per key: what is done to one VM is
// done one after the other, and different VMs do not wait for each other. It
// locks within this process only; the daemon's lock file keeps a second daemon
// away.
package keylock

import (
	"context"
	"sync"
)

// A Map holds one lock per key. The zero Map is ready; it must not be copied.
// A key that nobody holds or waits for takes no memory.
type Map[K comparable] struct {
	mu    sync.Mutex
	locks map[K]*lock
}

// lock is a semaphore of one: a channel, unlike a sync.Mutex, can be waited for
// together with a context.
type lock struct {
	held  chan struct{}
	users int // holder and waiters, guarded by Map.mu
}

// Lock waits until key is free or ctx ends, whichever is first; an ended ctx
// never gets the lock. unlock gives it back and may be called more than once;
// it is nil when err is not.
func (m *Map[K]) Lock(ctx context.Context, key K) (unlock func(), err error) {
	if err := context.Cause(ctx); err != nil {
		return nil, err
	}
	l := m.join(key)
	select {
	case l.held <- struct{}{}:
		return sync.OnceFunc(func() {
			<-l.held
			m.leave(key, l)
		}), nil
	case <-ctx.Done():
		m.leave(key, l)
		return nil, context.Cause(ctx)
	}
}

// Len returns how many keys are held or waited for.
func (m *Map[K]) Len() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.locks)
}

func (m *Map[K]) join(key K) *lock {
	m.mu.Lock()
	defer m.mu.Unlock()
	l := m.locks[key]
	if l == nil {
		if m.locks == nil {
			m.locks = map[K]*lock{}
		}
		l = &lock{held: make(chan struct{}, 1)}
		m.locks[key] = l
	}
	l.users++
	return l
}

func (m *Map[K]) leave(key K, l *lock) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if l.users--; l.users == 0 {
		delete(m.locks, key)
	}
}
