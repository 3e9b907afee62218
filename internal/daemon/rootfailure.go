package daemon

import (
	"errors"
	"fmt"
	"strings"

	"banger"
	"banger/internal/host"
)

// rootFailure is why banger-root did not start, in its own words: it ends with a
// line that says what failed, and one that says what to do.
func rootFailure(err error) error {
	var exit *host.ExitError
	if !errors.As(err, &exit) {
		return fmt.Errorf("start banger-root: %w", err)
	}
	lines := strings.Split(strings.TrimSpace(exit.Stderr), "\n")
	for i := len(lines) - 1; i >= 0; i-- {
		message, ok := strings.CutPrefix(lines[i], "banger-root: ")
		if !ok {
			continue
		}
		e := &banger.Error{Code: banger.HostUnready, Message: "start banger-root: " + message, Err: err}
		if i+1 < len(lines) {
			e.Remedy = strings.TrimSpace(lines[i+1])
		}
		return e
	}
	return fmt.Errorf("start banger-root: %w", err)
}
