package host

import (
	"context"
	"errors"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// A group is the process group of a running tool.
type group struct {
	leader int

	mu    sync.Mutex
	over  bool // the leader is about to be reaped: its number may soon mean others
	timer *time.Timer
}

// await blocks until the leader has ended, and ends what it left running. When
// ctx ends before that, the group is asked to end, so that a tool can take away
// what it made (a mount, a temporary directory), and killed after killGrace.
// The leader is left as a zombie: it keeps the group's number from being reused
// while signals are sent.
func (g *group) await(ctx context.Context) {
	stop := context.AfterFunc(ctx, func() {
		g.signal(unix.SIGTERM)
		g.mu.Lock()
		defer g.mu.Unlock()
		if !g.over {
			g.timer = time.AfterFunc(killGrace, func() { g.signal(unix.SIGKILL) })
		}
	})
	defer stop()
	for errors.Is(unix.Waitid(unix.P_PID, g.leader, nil, unix.WEXITED|unix.WNOWAIT, nil), unix.EINTR) {
	}
	g.signal(unix.SIGKILL)
	g.mu.Lock()
	defer g.mu.Unlock()
	g.over = true
	if g.timer != nil {
		g.timer.Stop()
	}
}

func (g *group) signal(sig unix.Signal) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.over {
		// ESRCH: nobody is left. Nothing else can be done about any error.
		_ = unix.Kill(-g.leader, sig)
	}
}
