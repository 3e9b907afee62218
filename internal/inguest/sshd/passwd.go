package sshd

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// maxPasswd bounds /etc/passwd and /etc/group, bytes.
const maxPasswd = 4 << 20

// An account is an entry of /etc/passwd.
type account struct {
	Name     string
	UID, GID uint32
	Home     string
	Shell    string
}

// users reads the image's accounts anew each time: a package's installation or
// adduser counts at once. Not through os/user, which without cgo gives neither
// the shell nor a name for what is not there.
type users struct{ root string }

func (s *Server) users() users { return users{root: s.cfg.Root} }

// login returns the account of that name. An image without /etc/passwd has root.
func (u users) login(name string) (account, error) {
	text, err := readBounded(filepath.Join(u.root, "/etc/passwd"))
	if errors.Is(err, fs.ErrNotExist) {
		text, err = "root:x:0:0:root:/root:/bin/sh\n", nil
	}
	if err != nil {
		return account{}, fmt.Errorf("read accounts: %w", err)
	}
	a, ok := parsePasswd(text, name)
	if !ok {
		return account{}, fmt.Errorf("no account %q", name)
	}
	return a, nil
}

// groups returns all groups of a: its own and those that list it. None beyond
// its own when /etc/group cannot be read.
func (u users) groups(a account) []uint32 {
	text, _ := readBounded(filepath.Join(u.root, "/etc/group"))
	return parseGroups(text, a)
}

func readBounded(file string) (string, error) {
	f, err := os.Open(file)
	if err != nil {
		return "", err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxPasswd))
	return string(b), err
}

// parsePasswd returns the first usable entry of that name.
func parsePasswd(text, name string) (account, bool) {
	for line := range strings.Lines(text) {
		f := strings.Split(strings.TrimRight(line, "\r\n"), ":")
		if len(f) != 7 || f[0] != name || name == "" || strings.ContainsRune(line, 0) {
			continue
		}
		uid, err1 := parseID(f[2])
		gid, err2 := parseID(f[3])
		if err1 != nil || err2 != nil {
			continue
		}
		a := account{Name: name, UID: uid, GID: gid, Home: f[5], Shell: f[6]}
		if a.Home == "" {
			a.Home = "/"
		}
		if a.Shell == "" { // as passwd(5) says
			a.Shell = "/bin/sh"
		}
		return a, true
	}
	return account{}, false
}

// maxGroups is what the kernel takes (NGROUPS_MAX).
const maxGroups = 65536

func parseGroups(text string, a account) []uint32 {
	groups := []uint32{a.GID}
	for line := range strings.Lines(text) {
		f := strings.Split(strings.TrimRight(line, "\r\n"), ":")
		if len(f) != 4 || !slices.Contains(strings.Split(f[3], ","), a.Name) {
			continue
		}
		gid, err := parseID(f[2])
		if err == nil && !slices.Contains(groups, gid) && len(groups) < maxGroups {
			groups = append(groups, gid)
		}
	}
	return groups
}

// parseID refuses 2³²-1, which the kernel reads as "leave it as it is".
func parseID(s string) (uint32, error) {
	n, err := strconv.ParseUint(s, 10, 32)
	if err == nil && n == 1<<32-1 {
		err = strconv.ErrRange
	}
	return uint32(n), err
}
