package vmcmd

import (
	"context"
	"os"
	"os/signal"
	"syscall"
	"time"

	"banger/internal/api"
)

// A command is left to itself at the Ctrl-C that makes it so many within so
// short a time. Other signals are a program's, which may mean each of many.
const (
	patience = 3
	hurry    = 2 * time.Second
)

// presses are the times of the last Ctrl-Cs, oldest first.
type presses []time.Time

// add notes one and reports whether whoever pressed it has had enough.
func (p *presses) add(now time.Time) bool {
	*p = append(*p, now)
	if len(*p) < patience {
		return false
	}
	first := (*p)[len(*p)-patience]
	*p = (*p)[len(*p)-patience+1:]
	return now.Sub(first) <= hurry
}

// passedOn are the signals that a guest's command gets in our stead.
var passedOn = map[os.Signal]string{
	syscall.SIGINT:  "INT",
	syscall.SIGTERM: "TERM",
	syscall.SIGQUIT: "QUIT",
	syscall.SIGHUP:  "HUP",
	syscall.SIGUSR1: "USR1",
	syscall.SIGUSR2: "USR2",
}

// caught are the signals that we get during a session.
type caught struct {
	names  chan string
	resize chan api.Resize
	stop   func()
}

// catch passes signals on until stop is called; cancel is called when the
// command is to be left to itself.
func (e Env) catch(tty bool, cancel context.CancelCauseFunc) *caught {
	in := make(chan os.Signal, 8)
	// A SIGPIPE for stdout ends a Go program unless it is asked for; asked
	// for, the write fails, and what is to be done at the end is done.
	signal.Notify(in, syscall.SIGPIPE)
	for s := range passedOn {
		signal.Notify(in, s)
	}
	if tty {
		signal.Notify(in, syscall.SIGWINCH)
	}
	done, ended := make(chan struct{}), make(chan struct{})
	c := &caught{
		names:  make(chan string, 8),
		resize: make(chan api.Resize, 1),
		stop: func() {
			signal.Stop(in)
			close(done)
			<-ended
		},
	}
	go func() {
		defer close(ended)
		var pressed presses
		for {
			select {
			case <-done:
				return
			case s := <-in:
				if s == syscall.SIGWINCH {
					e.resized(c.resize)
					continue
				}
				name, ok := passedOn[s]
				if !ok {
					continue
				}
				select {
				case c.names <- name:
				default: // it takes none any more
				}
				if s == syscall.SIGHUP || s == syscall.SIGINT && pressed.add(time.Now()) {
					cancel(errLeft)
				}
			}
		}
	}()
	return c
}

// resized puts the terminal's size into the channel, in the place of one that
// nobody has taken.
func (e Env) resized(to chan api.Resize) {
	rows, cols, ok := e.IO.Size()
	if !ok {
		return
	}
	select {
	case <-to:
	default:
	}
	to <- api.Resize{Rows: rows, Cols: cols}
}
