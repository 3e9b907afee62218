package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"banger"
	"banger/internal/cli/streams"
	"banger/internal/cli/vmcmd"
)

// Exit codes, documented in banger help exit-codes.
const (
	exitFailed = 1
	exitOwn    = 125
)

// finish tells how a command ended.
func finish(s *streams.Streams, err error) int {
	s.Progress().Close()
	printError(s, err)
	return exitCode(err)
}

// exitCode is the exit code that tells err. Of several errors it is the one
// that all agree on, else 1; banger's own failure in run and exec comes first,
// since the guest's code would hide it.
func exitCode(err error) int {
	code := 0
	for _, err := range split(err) {
		var own *vmcmd.OwnFailure
		var guest *vmcmd.GuestExit
		var c int
		switch {
		case errors.As(err, &own):
			return exitOwn
		case errors.As(err, &guest):
			c = guest.Code
		default:
			c = banger.CodeOf(err).Exit()
		}
		if c == 0 {
			c = exitFailed
		}
		if code != 0 && code != c {
			c = exitFailed
		}
		code = c
	}
	return code
}

// printError writes for each error a line that says what failed, one that says
// what to do and one that names the log. A guest's exit code speaks for itself.
func printError(s *streams.Streams, err error) {
	for _, err := range split(err) {
		if guest := (*vmcmd.GuestExit)(nil); errors.As(err, &guest) {
			continue
		}
		e := banger.AsError(err)
		if errors.Is(err, context.Canceled) && !errors.As(err, new(*banger.Error)) { // by Ctrl-C, which nobody has said more about
			e.Message = "interrupted"
		}
		var b strings.Builder
		fmt.Fprintf(&b, "banger: %s\n", indented(e.Message))
		if e.Remedy != "" {
			fmt.Fprintf(&b, "  %s\n", indented(e.Remedy))
		}
		if e.Log != "" {
			fmt.Fprintf(&b, "  log: %s\n", indented(e.Log))
		}
		fmt.Fprint(s.Err, b.String())
	}
}

// indented makes text harmless (a message may quote a guest's console) and
// keeps it apart from the next error.
func indented(text string) string {
	text = strings.TrimRight(text, "\n")
	return strings.ReplaceAll(streams.EscapeLines(text), "\n", "\n    ")
}

// split takes errors apart that were joined.
func split(err error) []error {
	if err == nil {
		return nil
	}
	if many, ok := err.(interface{ Unwrap() []error }); ok {
		var all []error
		for _, e := range many.Unwrap() {
			all = append(all, split(e)...)
		}
		return all
	}
	return []error{err}
}
