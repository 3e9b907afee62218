package firecracker

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"regexp"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// beginning is the line that stands before what a run's guest says in the
// console's log.
func beginning(launch string) string { return "banger: console of launch " + launch }

const (
	maxTail    = 64 << 10               // bytes of the console that are looked at: a panic's call trace and more
	maxLine    = 512                    // and of its last line
	quietFor   = time.Second            // that follows a halted kernel's last line
	breath     = 100 * time.Millisecond // between two looks: Firecracker writes byte by byte
	lookSeldom = 2 * time.Second        // where the kernel has no watch left to give
)

// Lines by which a kernel says how it ends, on the console whatever its log
// level (emergency). A guest can print them, and then says so of itself.
var (
	halted    = regexp.MustCompile(`^(\[ *[0-9]+\.[0-9]+\] )?reboot: (Power down|System halted|Power off not available: System halted instead)$`)
	restarted = regexp.MustCompile(`(?m)^(\[ *[0-9]+\.[0-9]+\] )?reboot: Restarting system`)
	panicked  = regexp.MustCompile(`(?m)^(\[ *[0-9]+\.[0-9]+\] )?Kernel panic - not syncing`)
)

// consoleOf returns the end of what a run's guest has said, at most so many
// bytes. The file may be a guest's: no link is followed, no FIFO waited for.
func consoleOf(path, launch string, most int64) string {
	f, err := os.OpenFile(path, os.O_RDONLY|unixNoFollow, 0)
	if err != nil {
		return ""
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil || !st.Mode().IsRegular() {
		return ""
	}
	b := make([]byte, min(st.Size(), most))
	n, err := f.ReadAt(b, st.Size()-int64(len(b)))
	if err != nil && !errors.Is(err, io.EOF) {
		return ""
	}
	b = bytes.ReplaceAll(b[:n], []byte("\r"), nil)
	// Where the line was cut away, all that is left is this run's.
	if i := bytes.LastIndex(b, []byte(beginning(launch)+"\n")); i >= 0 {
		b = b[i+len(beginning(launch))+1:]
	}
	return string(b)
}

// isHalted reports whether the last thing that a guest said is that it halts.
func isHalted(console string) bool {
	console = strings.TrimRight(console, "\n")
	return halted.MatchString(console[strings.LastIndexByte(console, '\n')+1:])
}

// awaitHalt returns true once the guest has halted, which its VMM does not tell
// and does not end for; false if ctx ends before that. It sleeps while the
// guest says nothing.
func awaitHalt(ctx context.Context, path, launch string) bool {
	news := newsOf(path)
	defer news.close()
	for {
		limit := time.Duration(0)
		if isHalted(consoleOf(path, launch, maxLine)) {
			limit = quietFor
		}
		switch changed := news.wait(ctx, limit); {
		case ctx.Err() != nil:
			return false
		case changed:
			pause(ctx, breath)
		case limit > 0 && isHalted(consoleOf(path, launch, maxLine)):
			return true
		}
	}
}

// A news tells that a file was written to.
type news struct{ f *os.File } // nil: it cannot, and one has to look

func newsOf(path string) news {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return news{}
	}
	if _, err := unix.InotifyAddWatch(fd, path, unix.IN_MODIFY|unix.IN_DONT_FOLLOW); err != nil {
		unix.Close(fd)
		return news{}
	}
	return news{os.NewFile(uintptr(fd), "inotify")}
}

func (n news) close() {
	if n.f != nil {
		n.f.Close()
	}
}

// wait reports whether something was written before limit, 0 for none, or ctx ended.
func (n news) wait(ctx context.Context, limit time.Duration) bool {
	if n.f == nil {
		if limit == 0 {
			limit = lookSeldom
		}
		pause(ctx, limit)
		return false
	}
	deadline := time.Time{}
	if limit > 0 {
		deadline = time.Now().Add(limit)
	}
	if n.f.SetReadDeadline(deadline) != nil {
		return false
	}
	stop := context.AfterFunc(ctx, func() { n.f.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	_, err := n.f.Read(make([]byte, 4096))
	return err == nil
}

func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
