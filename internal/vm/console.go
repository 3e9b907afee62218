package vm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"banger"
	"banger/internal/vmm"
)

const (
	consoleTail  = 16 << 10 // bytes read from a log's end
	consoleLines = 12       // lines of it that an error shows
	failedKept   = 20       // logs of failed starts that are kept
)

// OpenLog opens a VM's log for reading. The directory belongs to the user that
// the VMM runs as, and a VMM that was taken over may have put anything there:
// no link is followed, no FIFO waited for, nothing but a file is read.
func OpenLog(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	var st unix.Stat_t
	err = unix.Fstat(int(f.Fd()), &st)
	if err == nil && (st.Mode&unix.S_IFMT != unix.S_IFREG || st.Nlink != 1) { // another name: another's file
		err = fmt.Errorf("%s is not a file of one name", path)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// tailOf returns the last bytes of a log, of what was written since it had from
// bytes. It may be a guest's: hostile.
func tailOf(path string, from int64) (string, error) {
	f, err := OpenLog(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return "", err
	}
	if from > st.Size() { // it was cut meanwhile
		from = 0
	}
	b := make([]byte, min(st.Size()-from, consoleTail))
	n, err := f.ReadAt(b, st.Size()-int64(len(b)))
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return string(b[:n]), err
}

// sizeOf returns a log's size, bytes; 0 if there is none.
func sizeOf(path string) int64 {
	st, err := os.Lstat(path)
	if err != nil {
		return 0
	}
	return st.Size()
}

// lastLines returns the last lines of a console, escaped for a terminal.
func lastLines(console string) string {
	lines := strings.FieldsFunc(console, func(r rune) bool { return r == '\n' || r == '\r' })
	lines = lines[max(0, len(lines)-consoleLines):]
	for i, l := range lines {
		lines[i] = "    " + escape(l)
	}
	return strings.Join(lines, "\n")
}

// escape makes every byte that is not plain text visible.
func escape(s string) string {
	var b strings.Builder
	for _, r := range s {
		if r == '\t' || r >= ' ' && r < 0x7f {
			b.WriteRune(r)
		} else {
			fmt.Fprintf(&b, "\\x%02x", r)
		}
	}
	return b.String()
}

// explain adds to the error of a failed start what the console showed, which
// accelerator was used and where the log is.
func (s *subject) explain(ctx context.Context, err error) error {
	e := banger.AsError(s.m.clear(err))
	if e.Code == banger.Canceled && ctx.Err() != nil {
		return e
	}
	e.Message = fmt.Sprintf("start %s: %s", s.rec.Spec.Name, e.Message)
	if b, berr := s.backend(); berr == nil {
		if caps, perr := b.Probe(context.WithoutCancel(ctx)); perr == nil {
			e.Message += fmt.Sprintf(" (accelerator %s: %s)", caps.Accelerator, caps.Why)
		}
	}
	if !s.launched { // what the log has is of earlier runs
		return orDoctor(e)
	}
	if e.Log == "" {
		e.Log = s.m.c.Paths.Serial(s.rec.ID)
	}
	if tail, terr := tailOf(s.m.c.Paths.Serial(s.rec.ID), s.console); terr == nil && tail != "" {
		e.Message += "\nthe console's last lines:\n" + lastLines(tail)
	}
	return orDoctor(e)
}

func orDoctor(e *banger.Error) *banger.Error {
	if e.Remedy == "" {
		e.Remedy = "banger doctor checks the host"
	}
	return e
}

// keepLogs saves the logs of a VM that is about to be undone and points the
// error at them.
func (m *Manager) keepLogs(s *subject, e *banger.Error) error {
	for _, path := range []string{m.c.Paths.VMMLog(s.rec.ID), m.c.Paths.Serial(s.rec.ID)} {
		kept := filepath.Join(m.c.Paths.Failed(), s.rec.Spec.Name+"-"+string(s.rec.ID)+"-"+filepath.Base(path))
		tail, err := tailOf(path, 0)
		if err != nil || tail == "" {
			continue // it never came to that log
		}
		if err := os.WriteFile(kept, []byte(tail), 0o600); err != nil {
			m.c.Log.Warn("keep the log of a failed start", "err", err)
			continue
		}
		e.Log = kept
	}
	if strings.HasPrefix(e.Log, m.c.Paths.VMDir(s.rec.ID)) {
		e.Log = ""
	}
	m.pruneFailed()
	return e
}

func (m *Manager) pruneFailed() {
	ents, err := os.ReadDir(m.c.Paths.Failed())
	if err != nil || len(ents) <= failedKept {
		return
	}
	age := func(e os.DirEntry) int64 {
		if i, err := e.Info(); err == nil {
			return i.ModTime().UnixNano()
		}
		return 0
	}
	slices.SortFunc(ents, func(a, b os.DirEntry) int { return int(age(a)>>20 - age(b)>>20) })
	for _, e := range ents[:len(ents)-failedKept] {
		os.Remove(filepath.Join(m.c.Paths.Failed(), e.Name()))
	}
}

// CutLogs cuts every running VM's logs that have outgrown their limit. A guest
// can make its VMM talk, too.
func (m *Manager) CutLogs() {
	m.mu.Lock()
	lives := maps.Clone(m.lives)
	m.mu.Unlock()
	for id, l := range lives {
		if t, ok := l.proc.(vmm.Talker); ok {
			if err := t.CutLogs(m.c.SerialMax); err != nil {
				m.c.Log.Warn("cut a VMM's logs", "vm", id, "err", err)
			}
		}
		for _, path := range []string{m.c.Paths.Serial(id), m.c.Paths.VMMLog(id)} {
			if err := m.c.CutLog(path, m.c.SerialMax); err != nil && !errors.Is(err, os.ErrNotExist) {
				m.c.Log.Warn("cut a log", "vm", id, "err", err)
			}
		}
	}
}
