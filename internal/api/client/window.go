package client

import "sync"

// A window is how much more of stdin may be sent.
type window struct {
	mu     sync.Mutex
	opened sync.Cond
	left   int
	closed bool
}

func newWindow(n int) *window {
	w := &window{left: n}
	w.opened.L = &w.mu
	return w
}

// take waits for room and takes at most n of it; 0 once it is closed.
func (w *window) take(n int) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	for w.left == 0 && !w.closed {
		w.opened.Wait()
	}
	if w.closed {
		return 0
	}
	n = min(n, w.left)
	w.left -= n
	return n
}

func (w *window) add(n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.left += n
	w.opened.Broadcast()
}

func (w *window) close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.closed = true
	w.opened.Broadcast()
}
