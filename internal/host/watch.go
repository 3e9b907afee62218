package host

import (
	"errors"
	"fmt"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// A Watcher tells when processes end: one epoll, one goroutine, one pidfd per
// process, no thread that waits and nothing that wakes up while nothing ends.
// It reaps those that are this process's children.
type Watcher struct {
	epoll int
	wake  int // eventfd that ends loop
	done  chan struct{}

	mu      sync.Mutex
	watched map[int32]*watched // by pidfd
	closed  bool
}

type watched struct {
	fd   int
	proc ProcID
	gone chan struct{}
	end  End
}

// An End is what is known of how a process ended.
type End struct {
	Known bool // false: it was not our child
	Code  int
	Sig   unix.Signal // 0: it exited with Code
}

// A Watch is one process under a Watcher's eyes.
type Watch struct {
	Gone <-chan struct{} // closed when the process has ended
	w    *watched
}

// End returns how the process ended; valid once Gone is closed.
func (w Watch) End() End { return w.w.end }

// NewWatcher returns a Watcher that watches nothing yet.
func NewWatcher() (*Watcher, error) {
	ep, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("epoll: %w", err)
	}
	wake, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		unix.Close(ep)
		return nil, fmt.Errorf("eventfd: %w", err)
	}
	w := &Watcher{epoll: ep, wake: wake, done: make(chan struct{}), watched: map[int32]*watched{}}
	ev := unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(wake)}
	if err := unix.EpollCtl(ep, unix.EPOLL_CTL_ADD, wake, &ev); err != nil {
		unix.Close(ep)
		unix.Close(wake)
		return nil, fmt.Errorf("epoll: %w", err)
	}
	go w.loop()
	return w, nil
}

// Watch begins to watch p; ErrGone if it has ended, or if its PID is another
// process's by now.
func (w *Watcher) Watch(p ProcID) (Watch, error) {
	fd, err := unix.PidfdOpen(p.PID, 0)
	if errors.Is(err, unix.ESRCH) {
		return Watch{}, ErrGone
	}
	if err != nil {
		return Watch{}, fmt.Errorf("pidfd of %d: %w", p.PID, err)
	}
	// The descriptor holds one process; only now the start time says which. A
	// zombie is let through: it may be our child, whose status is of use.
	st, err := readStat(p.PID)
	if err == nil && st.started != p.Started {
		err = ErrGone
	}
	if err != nil {
		unix.Close(fd)
		return Watch{}, err
	}
	gone := make(chan struct{})
	one := &watched{fd: fd, proc: p, gone: gone}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		unix.Close(fd)
		return Watch{}, os.ErrClosed
	}
	w.watched[int32(fd)] = one
	ev := unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(fd)}
	if err := unix.EpollCtl(w.epoll, unix.EPOLL_CTL_ADD, fd, &ev); err != nil {
		delete(w.watched, int32(fd))
		unix.Close(fd)
		return Watch{}, fmt.Errorf("epoll: %w", err)
	}
	return Watch{Gone: gone, w: one}, nil
}

func (w *Watcher) loop() {
	defer close(w.done)
	events := make([]unix.EpollEvent, 16)
	for {
		n, err := unix.EpollWait(w.epoll, events, -1)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return
		}
		for _, e := range events[:n] {
			if int(e.Fd) == w.wake {
				return
			}
			w.ended(e.Fd)
		}
	}
}

func (w *Watcher) ended(fd int32) {
	w.mu.Lock()
	one := w.watched[fd]
	delete(w.watched, fd)
	w.mu.Unlock()
	if one == nil {
		return
	}
	var status unix.WaitStatus
	// Not our child: ECHILD, and whoever's it is reaps it.
	if pid, err := unix.Wait4(one.proc.PID, &status, unix.WNOHANG, nil); err == nil && pid == one.proc.PID {
		one.end.Known = true
		if status.Signaled() {
			one.end.Sig = status.Signal()
		} else {
			one.end.Code = status.ExitStatus()
		}
	}
	w.forget(one.fd)
	close(one.gone)
}

// forget closes a pidfd that is in the epoll. Closing alone would leave it there
// for as long as a child between fork and exec has a copy (epoll(7), Q6): the
// dead process would go on being told of, under a number that is the next
// process's by then.
func (w *Watcher) forget(fd int) {
	_ = unix.EpollCtl(w.epoll, unix.EPOLL_CTL_DEL, fd, nil) // it is there
	unix.Close(fd)
}

// Close stops watching; the processes live on.
func (w *Watcher) Close() error {
	w.mu.Lock()
	if w.closed {
		w.mu.Unlock()
		return nil
	}
	w.closed = true
	w.mu.Unlock()
	if _, err := unix.Write(w.wake, []byte{1, 0, 0, 0, 0, 0, 0, 0}); err != nil {
		return fmt.Errorf("stop the watcher: %w", err)
	}
	<-w.done
	for _, one := range w.watched {
		unix.Close(one.fd)
	}
	return errors.Join(unix.Close(w.epoll), unix.Close(w.wake))
}

// Signal sends a signal to p and to nobody else, whoever has its PID by now.
func Signal(p ProcID, sig unix.Signal) error {
	fd, err := unix.PidfdOpen(p.PID, 0)
	if errors.Is(err, unix.ESRCH) {
		return ErrGone
	}
	if err != nil {
		return fmt.Errorf("pidfd of %d: %w", p.PID, err)
	}
	defer unix.Close(fd)
	if err := alive(p); err != nil {
		return err
	}
	err = unix.PidfdSendSignal(fd, sig, nil, 0)
	if errors.Is(err, unix.ESRCH) {
		return ErrGone
	}
	return err
}
