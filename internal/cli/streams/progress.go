package streams

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"time"
)

// Progress shows on Err what a command is doing: each step with its time once
// it is done and, on a terminal, one live line below them for those under way.
// All methods may be called at once; with Quiet none writes anything.
type Progress struct {
	s   *Streams
	now func() time.Time

	mu     sync.Mutex
	active []*step // in the order in which they began
	drawn  bool    // the live line is on the screen
	frame  int
	stop   chan struct{} // ends the ticker; nil: there is none
	ended  chan struct{}
}

// A step is one that is under way.
type step struct {
	name        string
	began       time.Time
	done, total int64
}

const redraw = 100 * time.Millisecond

func newProgress(s *Streams) *Progress { return &Progress{s: s, now: time.Now} }

// Begin says that a step began.
func (p *Progress) Begin(name string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.s.Quiet {
		return
	}
	p.active = append(p.active, &step{name: name, began: p.now()})
	if p.s.ErrTerm && p.stop == nil {
		p.stop, p.ended = make(chan struct{}), make(chan struct{})
		go p.tick(p.stop, p.ended)
	}
	p.draw()
}

// At says how far a step is; total 0 means unknown.
func (p *Progress) At(name string, done, total int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range p.active {
		if s.name == name {
			s.done, s.total = done, total
		}
	}
}

// End says that a step ended well, after d.
func (p *Progress) End(name string, d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.s.Quiet {
		return
	}
	for i, s := range p.active {
		if s.name == name {
			p.active = append(p.active[:i], p.active[i+1:]...)
			break
		}
	}
	mark := ""
	if p.s.ErrTerm {
		mark = "✓ "
		if p.s.colour() {
			mark = "\x1b[32m✓\x1b[0m "
		}
	}
	p.line(mark + Escape(name) + " " + Seconds(d))
}

// Note writes one line above the live one.
func (p *Progress) Note(format string, a ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.s.Quiet {
		p.line(Escape(fmt.Sprintf(format, a...)))
	}
}

// Close forgets the steps under way and takes the live line off the screen;
// the Progress can be used again.
func (p *Progress) Close() {
	p.mu.Lock()
	p.active = nil
	p.clear()
	stop, ended := p.stop, p.ended
	p.stop, p.ended = nil, nil
	p.mu.Unlock()
	if stop != nil {
		close(stop)
		<-ended
	}
}

func (p *Progress) tick(stop, ended chan struct{}) {
	defer close(ended)
	t := time.NewTicker(redraw)
	defer t.Stop()
	for {
		select {
		case <-stop:
			return
		case <-t.C:
			p.mu.Lock()
			p.frame++
			p.draw()
			p.mu.Unlock()
		}
	}
}

// line writes a line that stays.
func (p *Progress) line(text string) {
	p.clear()
	_, _ = fmt.Fprintln(p.s.Err, text)
	p.draw()
}

func (p *Progress) clear() {
	if p.drawn {
		_, _ = io.WriteString(p.s.Err, "\r\x1b[K")
		p.drawn = false
	}
}

// draw writes the live line: the step that began last, and how many more.
func (p *Progress) draw() {
	if !p.s.ErrTerm {
		return
	}
	p.clear()
	if len(p.active) == 0 {
		return
	}
	cols := 80
	if _, c, ok := p.s.Size(); ok {
		cols = c
	}
	s := p.active[len(p.active)-1]
	text := string([]rune(`|/-\`)[p.frame%4]) + " " + Escape(s.name)
	if s.total > 0 {
		text += " " + bar(s.done, s.total)
	} else if s.done > 0 {
		text += " " + amount(s.done)
	}
	text += " " + Seconds(p.now().Sub(s.began))
	if n := len(p.active) - 1; n > 0 {
		text += fmt.Sprintf(" (and %d more)", n)
	}
	if r := []rune(text); len(r) >= cols {
		text = string(r[:cols-1])
	}
	_, _ = io.WriteString(p.s.Err, text)
	p.drawn = true
}

// bar is a bar of twenty places and the percentage.
func bar(done, total int64) string {
	const width = 20
	share := min(max(float64(done)/float64(total), 0), 1)
	n := int(share * width)
	return fmt.Sprintf("[%s%s] %3d%%", strings.Repeat("#", n), strings.Repeat(".", width-n), int(share*100))
}

// amount is a number of bytes for people.
func amount(n int64) string {
	if n < 1<<20 {
		return fmt.Sprintf("%d KiB", n>>10)
	}
	return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
}

// Seconds is a time for people: 0.1s, 12.3s, 2m03s.
func Seconds(d time.Duration) string {
	if d < time.Minute {
		return fmt.Sprintf("%.1fs", d.Seconds())
	}
	d = d.Round(time.Second)
	return fmt.Sprintf("%dm%02ds", int(d.Minutes()), int(d.Seconds())%60)
}
