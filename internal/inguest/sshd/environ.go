package sshd

import (
	"path/filepath"
	"strings"

	"banger/internal/guestapi"
)

// What Debian's login(1) gives; other distributions' shells set their own.
const (
	rootPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
	userPath = "/usr/local/bin:/usr/bin:/bin:/usr/local/games:/usr/games"
)

// loginEnv is what every command of a finds, before the client's variables and
// on top of the image's /etc/environment.
func (u users) loginEnv(a account) []string {
	search := userPath
	if a.UID == 0 {
		search = rootPath
	}
	env := []string{"PATH=" + search}
	text, _ := readBounded(filepath.Join(u.root, "/etc/environment"))
	env = append(env, parseEnvironment(text)...)
	return append(env, "HOME="+a.Home, "USER="+a.Name, "LOGNAME="+a.Name, "SHELL="+a.Shell)
}

// parseEnvironment reads /etc/environment as pam_env does: K=V lines, an
// optional "export", quotes around the value taken away.
func parseEnvironment(text string) []string {
	var env []string
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		line = strings.TrimPrefix(line, "export ")
		name, value, ok := strings.Cut(line, "=")
		if !ok || !validName(name) || strings.ContainsRune(value, 0) || len(env) == guestapi.MaxEnv {
			continue
		}
		if n := len(value); n >= 2 && (value[0] == '"' || value[0] == '\'') && value[n-1] == value[0] {
			value = value[1 : n-1]
		}
		env = append(env, name+"="+value)
	}
	return env
}

// validName: what a shell can refer to, so no comment and no "=".
func validName(name string) bool {
	for i, c := range name {
		if c != '_' && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9' || i == 0) {
			return false
		}
	}
	return name != ""
}

// lookup returns the last value of name in env, as a process sees it.
func lookup(env []string, name string) string {
	for i := len(env) - 1; i >= 0; i-- {
		if v, ok := strings.CutPrefix(env[i], name+"="); ok {
			return v
		}
	}
	return ""
}
