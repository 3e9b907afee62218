package vm

import (
	"encoding/json"
	"strings"

	"banger/internal/guestapi"
)

// CheckExec refuses a command that no guest could run.
func CheckExec(e guestapi.Exec) error {
	b, err := json.Marshal(e)
	if err != nil {
		return err
	}
	if len(b) > guestapi.MaxCommand {
		return invalid("the command with its variables has %d bytes, at most %d are possible", len(b), guestapi.MaxCommand).
			WithRemedy("pass what is long on stdin")
	}
	if len(e.Argv) > 0 && e.Argv[0] == "" {
		return invalid("the command's name is empty")
	}
	for _, a := range append([]string{string(e.Dir), string(e.User)}, e.Argv...) {
		if strings.Contains(a, "\x00") {
			return invalid("%q has a NUL byte, which no argument can hold", a)
		}
	}
	if len(e.Env) > guestapi.MaxEnv {
		return invalid("the command has %d variables, at most %d are possible", len(e.Env), guestapi.MaxEnv)
	}
	for _, v := range e.Env {
		if !guestapi.ValidVariable(v) {
			return invalid("%q is no variable", v).WithRemedy("write NAME=VALUE")
		}
	}
	return nil
}

// maxPath bounds a path, bytes: Linux's own limit.
const maxPath = 4096

// CheckCopy refuses a copy that no guest could make.
func CheckCopy(c guestapi.Copy) error {
	for _, p := range []string{string(c.Path), string(c.Name)} {
		if strings.Contains(p, "\x00") {
			return invalid("%q has a NUL byte, which no path can hold", p)
		}
		if len(p) >= maxPath {
			return invalid("a path of %d bytes is too long", len(p))
		}
	}
	if c.Name == "" || c.Name == ".." || strings.Contains(string(c.Name), "/") {
		return invalid("%q is no name for a copy", c.Name)
	}
	if c.Out && c.Archive {
		return invalid("an archive is copied into a VM, not out of it")
	}
	return nil
}
