// Package streams is a command's standard input, output and error: whether they
// are terminals, how progress and results are written to them, and how foreign
// bytes are made harmless on the way. It knows nothing of banger's words.
package streams

import (
	"bytes"
	"io"
	"os"

	"golang.org/x/term"
)

// Streams are what a command reads from and writes to. Results go to Out;
// progress, notes and errors to Err.
type Streams struct {
	In  io.Reader
	Out io.Writer
	Err io.Writer

	InTerm, OutTerm, ErrTerm bool // is a terminal

	Quiet bool // no progress and no notes; lists print names alone

	LookupEnv func(string) (string, bool) // the caller's environment

	in, out, err *os.File // nil: not a file, so no terminal either
	progress     *Progress
}

// FromFiles returns the streams of a process.
func FromFiles(in, out, errs *os.File) *Streams {
	s := &Streams{
		In: in, Out: out, Err: errs,
		InTerm: isTerm(in), OutTerm: isTerm(out), ErrTerm: isTerm(errs),
		LookupEnv: os.LookupEnv,
		in:        in, out: out, err: errs,
	}
	s.progress = newProgress(s)
	return s
}

// Test returns streams over buffers, none of them a terminal, with an empty
// environment.
func Test() (s *Streams, in, out, errs *bytes.Buffer) {
	in, out, errs = new(bytes.Buffer), new(bytes.Buffer), new(bytes.Buffer)
	s = &Streams{
		In: in, Out: out, Err: errs,
		LookupEnv: func(string) (string, bool) { return "", false },
	}
	s.progress = newProgress(s)
	return s, in, out, errs
}

// Getenv is the value of a variable of the caller's, "" when it is not set.
func (s *Streams) Getenv(name string) string {
	v, _ := s.LookupEnv(name)
	return v
}

// Progress is where this command reports what it is doing.
func (s *Streams) Progress() *Progress { return s.progress }

// Note writes one line for the user to Err, unless Quiet.
func (s *Streams) Note(format string, a ...any) { s.Progress().Note(format, a...) }

// Size is the size of the terminal that the user sees: ok is false when none
// of the streams is one.
func (s *Streams) Size() (rows, cols int, ok bool) {
	for _, f := range []*os.File{s.out, s.err, s.in} {
		if f == nil {
			continue
		}
		var c, r int
		err := control(f, func(fd int) (err error) {
			c, r, err = term.GetSize(fd)
			return err
		})
		if err == nil && c > 0 && r > 0 {
			return r, c, true
		}
	}
	return 0, 0, false
}

// Raw hands every key of the terminal on In to the program as it is, until
// restore is called; restore may be called more than once. When In is no
// terminal nothing happens.
func (s *Streams) Raw() (restore func(), err error) {
	if s.in == nil || !s.InTerm {
		return func() {}, nil
	}
	var old *term.State
	err = control(s.in, func(fd int) (err error) {
		old, err = term.MakeRaw(fd)
		return err
	})
	if err != nil {
		return func() {}, err
	}
	return func() { _ = control(s.in, func(fd int) error { return term.Restore(fd, old) }) }, nil
}

// colour says whether Err may have colours (https://no-color.org).
func (s *Streams) colour() bool {
	return s.ErrTerm && s.Getenv("NO_COLOR") == "" && s.Getenv("TERM") != "dumb"
}

func isTerm(f *os.File) bool {
	is := false
	_ = control(f, func(fd int) error {
		is = term.IsTerminal(fd)
		return nil
	})
	return is
}

// control hands f's descriptor to do. File.Fd would make it blocking for good:
// a Read under way could then not be interrupted any more, although
// SetReadDeadline says that it was.
func control(f *os.File, do func(fd int) error) error {
	conn, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	if err := conn.Control(func(fd uintptr) { failed = do(int(fd)) }); err != nil {
		return err
	}
	return failed
}
