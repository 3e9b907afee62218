package cli_test

import (
	"context"
	"errors"
	"fmt"
	"os/signal"
	"syscall"
	"testing"

	"banger"
	"banger/internal/cli"
	"banger/internal/cli/streams"
	"banger/internal/cli/vmcmd"
)

// pressed is how the context of package signal says that a signal came.
func pressed(t *testing.T) error {
	ctx, stop := signal.NotifyContext(t.Context(), syscall.SIGUSR1)
	defer stop()
	if err := syscall.Kill(syscall.Getpid(), syscall.SIGUSR1); err != nil {
		t.Fatal(err)
	}
	<-ctx.Done()
	return context.Cause(ctx)
}

func TestErrors(t *testing.T) {
	coded := func(c banger.Code) error { return banger.Errorf(c, "it is %s", c) }
	for _, c := range []struct {
		name string
		err  error
		code int
		text string
	}{
		{"none", nil, 0, ""},
		{"invalid", coded(banger.Invalid), 2, "banger: it is invalid\n"},
		{"not found", coded(banger.NotFound), 3, "banger: it is not_found\n"},
		{"exists", coded(banger.Exists), 4, "banger: it is exists\n"},
		{"wrong state", coded(banger.WrongState), 4, "banger: it is wrong_state\n"},
		{"busy", coded(banger.Busy), 4, "banger: it is busy\n"},
		{"host", coded(banger.HostUnready), 5, "banger: it is host\n"},
		{"needs root", coded(banger.NeedsRoot), 5, "banger: it is needs_root\n"},
		{"canceled", coded(banger.Canceled), 1, "banger: it is canceled\n"},
		{"timeout", coded(banger.TimedOut), 1, "banger: it is timeout\n"},
		{"lost", coded(banger.Lost), 1, "banger: it is lost\n"},
		{"internal", coded(banger.Internal), 1, "banger: it is internal\n"},
		{"of another daemon", coded("news"), 1, "banger: it is news\n"},
		{"without a code", errors.New("odd"), 1, "banger: odd\n"},
		{"interrupted", context.Canceled, 1, "banger: interrupted\n"},
		{"interrupted by a signal", fmt.Errorf("read: %w", pressed(t)), 1, "banger: interrupted\n"},
		{
			"all three lines", fmt.Errorf("start web: %w", banger.Errorf(banger.NotFound, "no kernel").WithRemedy("banger bundle build").WithLog("/log")),
			3, "banger: start web: no kernel\n  banger bundle build\n  log: /log\n",
		},
		{
			"a guest's console", banger.Errorf(banger.Internal, "it died:\n\x1b[2Jpanic\r\n").WithRemedy("a\nb"),
			1, "banger: it died:\n    \\x1b[2Jpanic\\x0d\n  a\n    b\n",
		},
		{"guest's code", &vmcmd.GuestExit{Code: 42}, 42, ""},
		{"own failure", &vmcmd.OwnFailure{Err: coded(banger.NotFound)}, 125, "banger: it is not_found\n"},
		{"own failure after the guest's", errors.Join(&vmcmd.GuestExit{Code: 42}, &vmcmd.OwnFailure{Err: coded(banger.Busy)}), 125, "banger: it is busy\n"},
		{"several alike", errors.Join(coded(banger.Exists), coded(banger.Busy)), 4, "banger: it is exists\nbanger: it is busy\n"},
		{"several", errors.Join(coded(banger.NotFound), coded(banger.Busy)), 1, "banger: it is not_found\nbanger: it is busy\n"},
	} {
		s, _, _, errs := streams.Test()
		if code := cli.Finish(s, c.err); code != c.code || errs.String() != c.text {
			t.Errorf("%s: %d, want %d\n%s", c.name, code, c.code, errs)
		}
	}
}
