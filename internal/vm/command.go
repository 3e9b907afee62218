package vm

import (
	"encoding/json"
	"strings"

	"banger/internal/guestapi"
)

// maxCommand bounds a command as it goes to a guest, bytes of JSON. An SSH
// packet holds 256 KiB, and a longer one breaks the VM's one connection, with
// all other commands on it (seen with x/crypto/ssh).
const maxCommand = 200 << 10

// CheckExec refuses a command that no guest could run.
func CheckExec(e guestapi.Exec) error {
	b, err := json.Marshal(e)
	if err != nil {
		return err
	}
	if len(b) > maxCommand {
		return invalid("the command with its variables has %d bytes, at most %d are possible", len(b), maxCommand).
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
	for _, v := range e.Env {
		if name, _, ok := strings.Cut(v, "="); !ok || name == "" || strings.Contains(v, "\x00") {
			return invalid("%q is no variable", v).WithRemedy("write NAME=VALUE")
		}
	}
	return nil
}
