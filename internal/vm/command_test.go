package vm_test

import (
	"slices"
	"strings"
	"testing"

	"banger"
	"banger/internal/guestapi"
	"banger/internal/vm"
)

func TestCheckExec(t *testing.T) {
	for name, e := range map[string]guestapi.Exec{
		"too long":             {Argv: []string{"echo", strings.Repeat("x", 300<<10)}},
		"too long as JSON":     {Argv: []string{"echo", strings.Repeat("<", 100<<10)}},
		"empty name":           {Argv: []string{""}},
		"NUL in an argument":   {Argv: []string{"echo", "a\x00b"}},
		"NUL in the directory": {Argv: []string{"pwd"}, Dir: "/\x00"},
		"NUL in a variable":    {Argv: []string{"env"}, Env: []string{"A=\x00"}},
		"variable, no value":   {Argv: []string{"env"}, Env: []string{"A"}},
		"variable, no name":    {Argv: []string{"env"}, Env: []string{"=1"}},
		"many variables":       {Argv: []string{"env"}, Env: slices.Repeat([]string{"A=1"}, guestapi.MaxEnv+1)},
	} {
		if err := vm.CheckExec(e); banger.CodeOf(err) != banger.Invalid {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, e := range map[string]guestapi.Exec{
		"shell":         {},
		"odd but sound": {Argv: []string{"echo", "", "-n", "a=b\n"}, Env: []string{"A=", "B=1=2\n"}, Dir: "/tmp", User: "root"},
		"odd name":      {Argv: []string{"env"}, Env: []string{"my-var=1"}},
		"long variable": {Argv: []string{"env"}, Env: []string{"A=" + strings.Repeat("x", 190<<10)}},
		"long":          {Argv: []string{"echo", strings.Repeat("x", 128<<10)}},
	} {
		if err := vm.CheckExec(e); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}
