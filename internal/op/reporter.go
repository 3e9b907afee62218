package op

import (
	"fmt"
	"log/slog"
	"sync"
	"time"

	"banger"
)

// A Reporter tells an operation's followers how it goes. It may be used by
// several goroutines at once.
type Reporter struct {
	log  *eventLog
	slog *slog.Logger

	mu       sync.Mutex
	progress map[string]mark // by step
}

// Step says that a step begins.
func (r *Reporter) Step(name string) {
	r.slog.Debug("step", "step", name)
	r.log.add(banger.Event{Type: banger.EventStep, Step: name})
}

// StepDone says that a step ended well.
func (r *Reporter) StepDone(name string, elapsed time.Duration) {
	r.slog.Info("step done", "step", name, "elapsed", elapsed)
	r.log.add(banger.Event{Type: banger.EventStepDone, Step: name, Elapsed: elapsed})
}

// Message is a line for the user. What a guest or an image wrote must be
// escaped already.
func (r *Reporter) Message(format string, a ...any) {
	m := fmt.Sprintf(format, a...)
	r.slog.Info("message", "message", m)
	r.log.add(banger.Event{Type: banger.EventMessage, Message: m})
}

// Progress says that step is at done of total, bytes or items; total 0 means
// that nobody knows. Call it as often as you like: only what an eye would
// notice becomes an event.
func (r *Reporter) Progress(step string, done, total int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.log.now()
	if last, ok := r.progress[step]; ok && !last.worth(now, done, total) {
		return
	}
	if r.progress == nil {
		r.progress = map[string]mark{}
	}
	r.progress[step] = mark{at: now, done: done, total: total}
	r.log.add(banger.Event{Type: banger.EventProgress, Step: step, Done: done, Total: total})
}

// A mark is the last progress of a step that became an event.
type mark struct {
	at          time.Time
	done, total int64
}

// minInterval is between two progress events of one step.
const minInterval = 100 * time.Millisecond

// worth says whether done is far enough from m. Events are kept for good and
// have their numbers for good, so their count is bounded here: one for each
// hundredth of a known total, or for growth by a sixteenth where there is none
// (some 500 of them up to 2^63).
func (m mark) worth(now time.Time, done, total int64) bool {
	if done == m.done && total == m.total {
		return false
	}
	if total > 0 && done >= total {
		return m.done < m.total || m.total != total
	}
	if now.Sub(m.at) < minInterval {
		return false
	}
	if total > 0 {
		return done-m.done >= total/100
	}
	return done-m.done >= m.done/16
}
