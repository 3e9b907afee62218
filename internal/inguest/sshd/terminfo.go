package sshd

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// term returns the terminal type to use: the wanted one when the image knows
// it, else the best that it knows. An image that knows none has no program that
// would look, so the wanted one stays.
func (u users) term(want string, a account) string {
	for _, name := range []string{want, "xterm-256color", "xterm", "vt100"} {
		if u.knowsTerm(name, a) {
			return name
		}
	}
	if !plainTerm(want) {
		return "vt100"
	}
	return want
}

// plainTerm: a terminal's name is looked up as a file's.
func plainTerm(name string) bool {
	return name != "" && !strings.ContainsAny(name, "/\x00") && name[0] != '.'
}

func (u users) knowsTerm(name string, a account) bool {
	if !plainTerm(name) {
		return false
	}
	for _, dir := range []string{filepath.Join(a.Home, ".terminfo"), "/etc/terminfo", "/lib/terminfo", "/usr/share/terminfo", "/usr/lib/terminfo"} {
		for _, letter := range []string{name[:1], fmt.Sprintf("%x", name[0])} {
			if _, err := os.Stat(filepath.Join(u.root, dir, letter, name)); err == nil {
				return true
			}
		}
	}
	return false
}
