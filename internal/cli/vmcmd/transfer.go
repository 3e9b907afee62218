package vmcmd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"banger"
	"banger/internal/api"
	"banger/internal/filetree"
	"banger/internal/rawtext"
)

// A transfer is one copy under way.
type transfer struct {
	e        Env
	src, dst place
	label    string // of the progress line
	total    int64  // bytes; 0: unknown
	done     atomic.Int64
	began    time.Time

	mu       sync.Mutex
	problems []error // of single files
	notes    int
}

// maxProblems bounds what one copy tells about single files.
const maxProblems = 50

func (e Env) newTransfer(o *cpOptions) *transfer {
	t := &transfer{e: e, src: o.src, dst: o.dst, label: fmt.Sprintf("copy %s to %s", o.src, o.dst), began: time.Now()}
	if t.shown() {
		if t.src.vm == "" && !t.src.stream {
			t.total = filetree.Size(t.src.path)
		}
		e.IO.Progress().Begin(t.label)
	}
	return t
}

// shown: a copy tells how far it is on a terminal only; nothing of it is worth
// a line elsewhere.
func (t *transfer) shown() bool { return t.e.IO.ErrTerm }

func (t *transfer) progress(n int64) {
	if done := t.done.Add(n); t.shown() {
		t.e.IO.Progress().At(t.label, done, t.total)
	}
}

// problem hears of what was left out here.
func (t *transfer) problem(path string, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case !errors.Is(err, filetree.ErrLeftOut):
		if len(t.problems) < maxProblems {
			t.problems = append(t.problems, fmt.Errorf("%s: %w", path, err))
		}
	case t.notes < maxProblems:
		t.notes++
		t.e.IO.Note("%s: %v", path, err)
	}
}

// options map owners: what is ours is root's in the VM. Root keeps all.
func (t *transfer) options() filetree.Options {
	o := filetree.Options{Problem: t.problem, Progress: t.progress, Foreign: true}
	if uid, gid := os.Geteuid(), os.Getegid(); uid != 0 {
		o.Owner = func(u, g int) (int, int) {
			if u == uid {
				u = 0
			}
			if g == gid {
				g = 0
			}
			return u, g
		}
	} else {
		o.KeepOwner = true
	}
	return o
}

// into copies from here, a tree or a tar stream.
func (t *transfer) into(ctx context.Context, c copier) error {
	req := api.CopyRequest{VM: t.dst.vm, Path: rawtext.String(t.dst.path), Name: "."}
	produce := t.pack
	if t.src.stream {
		req.Archive = true
		produce = func(w io.Writer) error {
			_, err := io.Copy(w, &counted{t.e.IO.In, t.progress})
			return err
		}
	} else {
		if _, err := os.Stat(t.src.path); err != nil { // before anything is made there
			return here(err)
		}
		req.Name = rawtext.String(filetree.BaseName(t.src.path))
	}
	r, w := io.Pipe()
	packed := make(chan error, 1)
	go func() {
		z := filetree.Compress(w)
		err := produce(z)
		if err == nil {
			err = z.Close()
		} else {
			z.Close() // only to end its goroutines
		}
		w.CloseWithError(err)
		packed <- err
	}()
	err := t.ask(ctx, c, req, api.ExecStreams{Stdin: r})
	r.CloseWithError(errDone)       // a guest that has given up reads no more
	if err != nil && t.src.stream { // stdin may say nothing for hours
		select {
		case own := <-packed:
			return ownFirst(own, err)
		default:
			return err
		}
	}
	return ownFirst(<-packed, err)
}

// ownFirst is what went wrong here, else what went wrong there.
func ownFirst(own, err error) error {
	if own != nil && !errors.Is(own, errDone) {
		return here(own)
	}
	return err
}

func (t *transfer) pack(w io.Writer) error {
	return filetree.Pack(w, t.src.path, ".", t.options())
}

// outOf copies to here, as a tree or a tar stream.
func (t *transfer) outOf(ctx context.Context, c copier) error {
	name := filetree.BaseName(t.src.path)
	req := api.CopyRequest{VM: t.src.vm, Path: rawtext.String(t.src.path), Out: true, Name: "."}
	consume := func(r io.Reader) error {
		return filetree.Unpack(r, filetree.Target{Path: t.dst.path, Name: name}, t.options())
	}
	if t.dst.stream {
		req.Name = rawtext.String(name)
		consume = func(r io.Reader) error {
			_, err := io.Copy(t.e.IO.Out, &counted{r, t.progress})
			return err
		}
	}
	r, w := io.Pipe()
	unpacked := make(chan error, 1)
	go func() {
		err := consume(filetree.Decompress(r))
		r.CloseWithError(err) // nil: whoever writes on learns that it is over
		unpacked <- err
	}()
	err := t.ask(ctx, c, req, api.ExecStreams{Stdout: w})
	w.CloseWithError(err) // nil: the end of the stream
	own := <-unpacked
	switch {
	case errors.Is(err, io.ErrClosedPipe) || err == nil: // what went wrong here was first
		return here(own)
	case own != nil && errors.Is(err, own):
		return here(own)
	}
	return err
}

// between copies from one VM to another: what the one sends the other unpacks.
func (t *transfer) between(ctx context.Context, c copier) error {
	r, w := io.Pipe()
	sent := make(chan error, 1)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		err := t.ask(ctx, c, api.CopyRequest{VM: t.src.vm, Path: rawtext.String(t.src.path), Out: true, Name: "."}, api.ExecStreams{Stdout: &countedWriter{w, t.progress}})
		w.CloseWithError(err)
		sent <- err
	}()
	err := t.ask(ctx, c, api.CopyRequest{VM: t.dst.vm, Path: rawtext.String(t.dst.path), Name: rawtext.String(filetree.BaseName(t.src.path))}, api.ExecStreams{Stdin: r})
	r.CloseWithError(errDone)
	return ownFirst(<-sent, err) // a sender that fails leaves the other nothing to unpack
}

var errDone = errors.New("the other side has ended")

// ask has a guest do its part. Its words about single files are notes, or the
// error that it ends with.
func (t *transfer) ask(ctx context.Context, c copier, req api.CopyRequest, s api.ExecStreams) error {
	words := &bounded{left: 64 << 10}
	s.Stderr = words
	exit, err := c.CopyVM(ctx, req, s)
	var failures []string
	for line := range strings.Lines(words.String()) {
		line = strings.TrimRight(line, "\n")
		if note, ok := strings.CutPrefix(line, filetree.Note); ok {
			t.e.IO.Note("%s: %s", req.VM, note)
		} else if line != "" {
			failures = append(failures, line)
		}
	}
	switch {
	case err != nil:
		return err
	case exit.Code == 0 && exit.Signal == "":
		return nil
	case len(failures) == 0:
		failures = []string{"the copy failed"}
	}
	code := banger.Code(banger.Internal)
	if exit.Code == filetree.NotFound {
		code = banger.NotFound
	}
	return banger.Errorf(code, "%s: %s", req.VM, strings.Join(failures, "\n"))
}

// end tells how it went.
func (t *transfer) end(err error) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if err = errors.Join(append(t.problems, err)...); err == nil && t.shown() {
		t.e.IO.Progress().End(t.label, time.Since(t.began))
	}
	return err
}

// here says of a file on this side what is wrong with it.
func here(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return banger.Errorf(banger.NotFound, "%w", err)
	}
	return err
}

type counted struct {
	r     io.Reader
	count func(int64)
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.count(int64(n))
	return n, err
}

type countedWriter struct {
	w     io.Writer
	count func(int64)
}

func (c *countedWriter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.count(int64(n))
	return n, err
}

// A bounded buffer keeps the beginning of what it gets.
type bounded struct {
	bytes.Buffer
	left int
}

func (b *bounded) Write(p []byte) (int, error) {
	k := min(len(p), b.left)
	b.left -= k
	b.Buffer.Write(p[:k])
	return len(p), nil
}
