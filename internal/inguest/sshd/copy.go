package sshd

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

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
