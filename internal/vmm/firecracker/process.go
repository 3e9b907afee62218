package firecracker

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"banger"
	"banger/internal/guestapi"
	"banger/internal/host"
	"banger/internal/vmm"
	"banger/internal/vmm/process"
)

// buttonLimit is how long a Firecracker may take to take a request.
const buttonLimit = 5 * time.Second

// A proc implements vmm.Process.
type proc struct {
	*process.Process
	console string // the serial log
	now     func() time.Time
	halted  bool // the guest; written before it is followed to its end
}

var _ vmm.Talker = (*proc)(nil)

// take puts a VMM under control.
func (b *Backend) take(h banger.Handle, watch host.Watch, console string) *proc {
	p := &proc{Process: process.New(h, watch), console: console, now: b.c.Now}
	p.Follow(process.Kind{Name: "Firecracker", Await: p.awaitHalt, How: p.howEnded})
	return p
}

// awaitHalt waits for the guest's halt, for which its VMM does not end.
func (p *proc) awaitHalt(ctx context.Context) bool {
	ctx, end := whileLives(ctx, p.Gone())
	defer end()
	p.halted = awaitHalt(ctx, p.console, p.Handle().Launch)
	return p.halted
}

func (p *proc) howEnded(killed bool) banger.Exit {
	launch := p.Handle().Launch
	e := howEnded(p.Ended(), consoleOf(p.console, launch, maxTail), launch, p.halted, killed)
	e.At = p.now()
	return e
}

// howEnded derives an Exit from the process's end and the guest's last words.
// Firecracker exits with 0 when a guest resets itself, and only then; the guest
// program ends a machine in no other way, and says before what was meant.
func howEnded(end host.End, console, launch string, halted, killed bool) banger.Exit {
	said := guestapi.ParseExitMarker(console, launch)
	reset := end.Known && end.Sig == 0 && end.Code == 0 || !end.Known && (said != "" || restarted.MatchString(console) || panicked.MatchString(console))
	switch {
	case halted:
		return banger.Exit{Cause: banger.ExitGuest}
	case reset && said != "":
		return banger.Exit{Cause: banger.ExitGuest, Reboot: said == "reboot"}
	case reset && panicked.MatchString(console):
		return banger.Exit{Cause: banger.ExitGuest, Detail: "its kernel panicked"}
	case reset:
		return banger.Exit{Cause: banger.ExitGuest, Reboot: true}
	case killed:
		return banger.Exit{Cause: banger.ExitKilled}
	}
	return banger.Exit{Cause: banger.ExitUnknown, Detail: "Firecracker " + end.String()}
}

// Shutdown implements vmm.Process: Ctrl-Alt-Del.
func (p *proc) Shutdown(ctx context.Context) error {
	select {
	case <-p.Gone():
		return fmt.Errorf("press Ctrl-Alt-Del: %w", host.ErrGone)
	default:
	}
	ctx, cancel := context.WithTimeout(ctx, buttonLimit)
	defer cancel()
	ctx, end := whileLives(ctx, p.Gone())
	defer end()
	err := becauseOf(ctx, pressButton(ctx, p.Handle()))
	if err != nil && !errors.Is(err, host.ErrGone) { // it ended, if perhaps before it answered
		return fmt.Errorf("press Ctrl-Alt-Del: %w", err)
	}
	return nil
}

// CutLogs implements vmm.Talker.
func (p *proc) CutLogs(limit int64) error {
	dir := filepath.Dir(p.Handle().Socket)
	return errors.Join(cutFile(filepath.Join(dir, logName), limit), cutFile(filepath.Join(dir, metricsName), limit))
}
