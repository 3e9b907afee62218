package matrix

import (
	"encoding/json"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"
)

// A point is where the daemon stands still and asks: "before ensure network",
// "after write 2". Writes of records are counted from the last watch on.
type point string

func (p point) phase() string { return strings.Join(strings.SplitN(string(p), " ", 3)[:2], " ") }

func (p point) step() string { return strings.SplitN(string(p), " ", 3)[2] }

// An answer is what the daemon is told; see internal/daemon/faults.go.
type answer struct {
	Fail  string        `json:"fail,omitempty"`
	Limit time.Duration `json:"limit_ns,omitempty"`
}

// A trap is sprung when the daemon first comes to its point: do says what it is
// told; false breaks the connection off, as to a daemon that was killed.
type trap struct {
	at  point
	do  func() (answer, bool)
	hit chan struct{} // closed when do has returned
}

func newTrap(at point, do func() (answer, bool)) *trap {
	return &trap{at: at, do: do, hit: make(chan struct{})}
}

// faults answers a faulty daemon.
type faults struct {
	l net.Listener

	mu     sync.Mutex
	log    []point // since the last watch
	writes int
	traps  []*trap
	late   point // whose deadline has passed when it begins
}

func serveFaults(socket string) (*faults, error) {
	l, err := net.Listen("unix", socket)
	if err != nil {
		return nil, err
	}
	f := &faults{l: l}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go f.serve(c)
		}
	}()
	return f, nil
}

// watch forgets all that was, and sets traps.
func (f *faults) watch(late point, traps ...*trap) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.log, f.writes, f.traps, f.late = nil, 0, traps, late
}

// seen are the points that the daemon came to since the last watch.
func (f *faults) seen() []point {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]point(nil), f.log...)
}

func (f *faults) serve(c net.Conn) {
	defer c.Close()
	var q struct{ VM, Step, At string }
	if err := json.NewDecoder(c).Decode(&q); err != nil {
		return
	}
	if a, ok := f.answer(q.Step, q.At); ok {
		json.NewEncoder(c).Encode(a)
	}
}

func (f *faults) answer(step, at string) (answer, bool) {
	if phase, ok := strings.CutPrefix(at, "limit of "); ok {
		f.mu.Lock()
		defer f.mu.Unlock()
		if point(phase+" "+step) == f.late {
			return answer{Limit: time.Nanosecond}, true
		}
		return answer{}, true
	}
	t := f.arrive(step, at)
	if t == nil {
		return answer{}, true
	}
	defer close(t.hit)
	return t.do()
}

// arrive notes a point and returns the trap that is sprung there, if any.
func (f *faults) arrive(step, at string) *trap {
	f.mu.Lock()
	defer f.mu.Unlock()
	if step == "record" {
		if strings.HasPrefix(at, "before") {
			f.writes++
		}
		step = fmt.Sprint(f.writes)
	}
	p := point(at + " " + step)
	f.log = append(f.log, p)
	if p == f.late {
		f.late = ""
	}
	for i, t := range f.traps {
		if t.at == p {
			f.traps = append(f.traps[:i:i], f.traps[i+1:]...)
			return t
		}
	}
	return nil
}
