// Package filetree moves files and trees of files as tar streams: Pack writes
// one, Unpack reads one. Both ends of a copy between host and VM use it, so it
// knows neither; what it reads is foreign, and what it writes never leaves the
// place that it was told. It keeps modes, owners, times, symbolic and hard links
// and holes; devices, FIFOs and sockets it leaves out and says so.
package filetree

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
)

// ErrLeftOut is in the tree of a problem with something that is no file,
// directory or link: the copy is complete all the same.
var ErrLeftOut = errors.New("left out")

// Options are how a stream is packed or unpacked. The zero value keeps all.
type Options struct {
	// Problem hears of what was left out and why. Packing goes on after it:
	// who packs decides whether the copy has failed.
	Problem func(path string, err error)
	// Owner maps the owners that are written into the stream, or those that
	// are given to files; nil leaves them.
	Owner func(uid, gid int) (int, int)
	// Progress hears of each piece of content, bytes.
	Progress func(n int64)
	// KeepOwner gives files their owners when they are unpacked, which root can.
	KeepOwner bool
	// Foreign takes set-uid, set-gid and sticky bits away when a stream is
	// unpacked: a program of a stranger's must not run as who copied it.
	Foreign bool
}

func (o *Options) problem(path string, err error) {
	if o.Problem != nil {
		o.Problem(path, err)
	}
}

func (o *Options) owner(uid, gid int) (int, int) {
	if o.Owner == nil {
		return uid, gid
	}
	return o.Owner(uid, gid)
}

func (o *Options) progress(n int64) {
	if o.Progress != nil {
		o.Progress(n)
	}
}

func leftOut(what string) error { return fmt.Errorf("%w: it is %s", ErrLeftOut, what) }

// What the end of a copy that is in another machine tells of it: an exit code,
// and lines about single files, of which those that begin with Note do not make
// it a failure.
const (
	Failed   = 1 // or incomplete
	NotFound = 3
	Note     = "note: "
)

// Code is the exit code of err.
func Code(err error) int {
	switch {
	case err == nil:
		return 0
	case errors.Is(err, fs.ErrNotExist):
		return NotFound
	}
	return Failed
}

// umask is this process's, which cannot be asked for otherwise without changing
// it for an instant, in which others may make files.
func umask() int64 {
	f, err := os.Open("/proc/self/status")
	if err == nil {
		defer f.Close()
		for s := bufio.NewScanner(f); s.Scan(); {
			if v, ok := strings.CutPrefix(s.Text(), "Umask:"); ok {
				if n, err := strconv.ParseInt(strings.TrimSpace(v), 8, 64); err == nil {
					return n
				}
			}
		}
	}
	return 0o077
}
