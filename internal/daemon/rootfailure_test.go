package daemon_test

import (
	"errors"
	"testing"

	"banger"
	"banger/internal/daemon"
	"banger/internal/host"
)

// What banger-root says of its failure is passed on, message and remedy.
func TestRootFailure(t *testing.T) {
	for stderr, want := range map[string]banger.Error{
		"banger-root: uid 0 is not allowed\nedit /etc/banger/root.toml\n":          {Message: "start banger-root: uid 0 is not allowed", Remedy: "edit /etc/banger/root.toml", Code: banger.HostUnready},
		"warning: odd\nbanger-root: listen: no such file\n":                        {Message: "start banger-root: listen: no such file", Code: banger.HostUnready},
		"panic: none of its own words\n":                                           {Message: "start banger-root: banger-root: exit code 5: panic: none of its own words", Code: banger.Internal},
		"banger-root: first\nfirst's remedy\nbanger-root: last\n  last's remedy\n": {Message: "start banger-root: last", Remedy: "last's remedy", Code: banger.HostUnready},
	} {
		err := daemon.RootFailure(&host.ExitError{Argv: []string{"banger-root"}, Code: 5, Stderr: stderr})
		if e := banger.AsError(err); e.Message != want.Message || e.Remedy != want.Remedy || e.Code != want.Code {
			t.Errorf("%q: %+v", stderr, e)
		}
	}
	if err := daemon.RootFailure(errors.New("gone")); err.Error() != "start banger-root: gone" {
		t.Error(err)
	}
}
