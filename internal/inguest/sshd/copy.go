package sshd

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"sync"

	"golang.org/x/crypto/ssh"

	"banger/internal/filetree"
	"banger/internal/guestapi"
)

// maxCopyLines bounds what one copy says about single files.
const maxCopyLines = 50

// beginCopy moves files. As with sftp the server, which is root, does so itself
// and for root alone.
func (s *session) beginCopy(payload []byte) (bool, func()) {
	var m struct{ JSON string }
	var c guestapi.Copy
	if ssh.Unmarshal(payload, &m) != nil || json.Unmarshal([]byte(m.JSON), &c) != nil {
		return false, nil
	}
	if s.conn.account.UID != uint32(os.Geteuid()) {
		return false, nil
	}
	s.began = true
	return true, func() {
		s.exit(s.copy(c))
		s.ch.Close()
	}
}

// copy does what c says and returns the exit code.
func (s *session) copy(c guestapi.Copy) int {
	defer relaxGC()()
	code, lines := 0, 0
	say := func(path string, err error) {
		note := ""
		if errors.Is(err, filetree.ErrLeftOut) {
			note = filetree.Note
		} else {
			code = filetree.Failed
		}
		switch lines++; {
		case lines <= maxCopyLines:
			fmt.Fprintf(s.ch.Stderr(), "%s%s: %v\n", note, strings.ReplaceAll(path, "\n", "\\n"), err)
		case lines == maxCopyLines+1:
			fmt.Fprintf(s.ch.Stderr(), "%sand more\n", note)
		}
	}
	o := filetree.Options{Problem: say, KeepOwner: os.Geteuid() == 0}
	path := s.inHome(string(c.Path))
	var err error
	if c.Out {
		w := filetree.Compress(s.ch)
		err = filetree.Pack(w, path, string(c.Name), o)
		if e := w.Close(); err == nil {
			err = e
		}
	} else {
		err = filetree.Unpack(filetree.Decompress(s.ch), filetree.Target{Path: path, Name: string(c.Name), Archive: c.Archive}, o)
	}
	if err != nil {
		fmt.Fprintln(s.ch.Stderr(), err)
		code = filetree.Code(err)
	}
	return code
}

// copies counts those under way.
var copies struct {
	sync.Mutex
	n int
}

// copyingGC is how much garbage there may be while one is, in per cent of what is
// in use. Each packet that comes in is memory of its own (x/crypto/ssh), so that
// the usual 100 collects the few MiB in use every few MiB, with all CPUs woken for
// it: a tenth of what a copy costs an emulated guest.
const copyingGC = 400

// relaxGC holds until the function that it returns is called.
func relaxGC() (restore func()) {
	copies.Lock()
	defer copies.Unlock()
	if copies.n++; copies.n == 1 {
		debug.SetGCPercent(copyingGC)
	}
	return func() {
		copies.Lock()
		defer copies.Unlock()
		if copies.n--; copies.n == 0 {
			debug.SetGCPercent(100)
		}
	}
}

// inHome is path as seen from the home directory, a slash at its end kept.
func (s *session) inHome(path string) string {
	home := s.conn.account.Home
	if st, err := os.Stat(home); err != nil || !st.IsDir() {
		home = "/"
	}
	if path == "~" || strings.HasPrefix(path, "~/") {
		path = "." + path[1:]
	}
	if filepath.IsAbs(path) {
		return path
	}
	return home + "/" + path
}
