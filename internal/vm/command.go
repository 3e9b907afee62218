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
