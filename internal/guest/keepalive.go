package guest

import (
	"sync"
	"time"
)

const (
	// keepaliveInterval is how long after a use began, or after the last
	// answer, the guest is asked for a sign of life.
	keepaliveInterval = 30 * time.Second
	// keepaliveLimit is how long nothing at all may come while the answer is
	// awaited. An emulated guest under load takes seconds, a paused one is lost;
	// on a slow link an answer comes behind all that was sent before it.
	keepaliveLimit = 30 * time.Second
)

// A keepalive probes a connection while it is used. Between uses there is no
// timer: an idle VM is not woken, nor is the daemon. A guest that died in
// between is noticed by the kernel (its VMM's socket closes), or at the next use.
type keepalive struct {
	ask   func() error // returns when the guest has answered, or the connection is lost
	heard func() int64 // how many bytes have come from it so far
	dead  func()       // loses the connection

	mu    sync.Mutex
	uses  int
	timer *time.Timer // not nil while uses > 0 and no probe is under way
	busy  bool        // a probe is under way
}

func newKeepalive(ask func() error, heard func() int64, dead func()) *keepalive {
	return &keepalive{ask: ask, heard: heard, dead: dead}
}

// use begins a use; what it returns ends it, and must be called once.
func (k *keepalive) use() (end func()) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.uses++
	k.arm()
	return func() {
		k.mu.Lock()
		defer k.mu.Unlock()
		if k.uses--; k.uses == 0 && k.timer != nil {
			k.timer.Stop()
			k.timer = nil
		}
	}
}

// arm sets the timer where there must be one; mu is held.
func (k *keepalive) arm() {
	if k.uses > 0 && k.timer == nil && !k.busy {
		k.timer = time.AfterFunc(keepaliveInterval, k.probe)
	}
}

// probe asks once.
func (k *keepalive) probe() {
	k.mu.Lock()
	k.timer, k.busy = nil, true
	k.mu.Unlock()

	err := k.answered()

	k.mu.Lock()
	defer k.mu.Unlock()
	k.busy = false
	if err == nil {
		k.arm()
	}
}

// answered asks, and waits for the answer as long as anything comes.
func (k *keepalive) answered() error {
	answer := make(chan error, 1)
	go func() { answer <- k.ask() }()
	quiet := time.NewTicker(keepaliveLimit)
	defer quiet.Stop()
	for heard := k.heard(); ; heard = k.heard() {
		select {
		case err := <-answer:
			return err
		case <-quiet.C:
		}
		if k.heard() == heard {
			k.dead()
			return <-answer
		}
	}
}
